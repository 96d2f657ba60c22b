"""Personal data by its form: e-mail addresses, telephone, card, account (IBAN) and national numbers.

What has check digits must have the right ones (python-stdnum), and a telephone number must be one that is given out
(phonenumbers). Names, addresses and dates of birth have no form and are not found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import phonenumbers
from stdnum import iban, luhn
from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.no import fodselsnummer
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.us import ssn

from alignment_worker.rows import Pair, Preference, Prompt

KINDS = ("Email", "IBAN", "Card", "NationalNumber", "Phone")  # of two that overlap the first counts
_INSTEAD = {
    "Email": "[email]",
    "IBAN": "[IBAN]",
    "Card": "[card number]",
    "NationalNumber": "[national number]",
    "Phone": "[phone number]",
}
_BEFORE, _AFTER = r"(?<![\w.\-/])", r"(?![\w/]|-\w|\.(?!0\b)\d)"
# What the Web, phones and Asian keyboards write for it; one character for one, so that places stay.
_PLAIN = str.maketrans(
    dict.fromkeys("\u00a0\u2007\u2009\u202f\u3000", " ")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\uff0d", "-")
    | {chr(0xFF10 + figure): str(figure) for figure in range(10)}
    | {"\uff20": "@", "\uff0e": ".", "\uff0b": "+"}
)


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(_BEFORE + pattern + _AFTER, re.ASCII)


def _alone(pattern: str) -> re.Pattern[str]:
    """Not within a list of numbers, of which some have the right check digit by chance."""
    return _form(rf"(?<![0-9] ){pattern}(?! [0-9])")


# Each is bounded: a text of any length is looked through once.
_EMAIL = re.compile(r"(?<![\w.%+\-])[\w.%+\-]{1,64}@(?:[\w\-]{1,63}\.){1,8}[^\W\d_]{2,24}(?!\w)")
# Where one may begin, and how far it may go: another may begin within.
_IBAN = re.compile(r"(?<!\w)(?=([A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}))", re.ASCII)
_CARDS = (
    _form(r"[0-9](?:[ \-]?[0-9]){12,18}"),
    _form(r"[0-9]{4}(?:[ \-]?[0-9]{4}){3}"),  # whatever figures stand around it
    _form(r"3[47][0-9]{2}[ \-]?[0-9]{6}[ \-]?[0-9]{5}"),
)
_ISSUED = re.compile(  # what numbers begin with, and how many figures those have
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})|(?:5[1-5]|2[2-7]|35|6[45])[0-9]{14}|6011[0-9]{12}|62[0-9]{14,17}"
    r"|3[47][0-9]{13}|3[0689][0-9]{12}"
)
_ABROAD = re.compile(r"(?<![\w+])(?=((?:\+|00)[1-9](?:[ .\-/]?(?:\(0\))?[ ]?\(?[0-9]\)?){6,14}))", re.ASCII)
_AMERICAN = _form(r"(?:\([0-9]{3}\) ?|[0-9]{3}[ .\-])[0-9]{3}[ .\-][0-9]{4}")
# Any of these but an e-mail address has six figures, or begins as Italy's numbers do.
_FIGURES = re.compile(r"[0-9](?:[ .()/\-]{0,3}[0-9]){5}")
_CODE = re.compile(r"(?<!\w)[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST]", re.ASCII)
_NATIONAL: tuple[tuple[re.Pattern[str], Callable[[str], bool]], ...] = (
    (_form(r"[0-9]{3}-[0-9]{2}-[0-9]{4}"), ssn.is_valid),
    (_alone(r"[0-9]{3}[ \-][0-9]{3}[ \-][0-9]{3}"), sin.is_valid),
    (
        _form(r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] [0-9]{2} [0-9]{2} [0-9]{2} [A-D]"),
        lambda _: True,  # the United Kingdom's has no check digit
    ),
    (
        _form(r"[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]"),
        codicefiscale.is_valid,
    ),
    (_form(r"[0-9]{8}-?[A-Z]"), dni.is_valid),
    (_form(r"[XYZ]-?[0-9]{7}-?[A-Z]"), nie.is_valid),
    (
        _form(r"[12] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"),
        nir.is_valid,
    ),
    (_form(r"756\.?[0-9]{4}\.?[0-9]{4}\.?[0-9]{2}"), ahv.is_valid),
    (_form(r"[0-9]{2}\.[0-9]{2}\.[0-9]{2}-[0-9]{3}\.[0-9]{2}"), nn.is_valid),
    (_form(r"[0-9]{6}[\-+][0-9]{4}"), personnummer.is_valid),
    (_form(r"[0-9]{6}[\-+A][0-9]{3}[0-9A-Y]"), hetu.is_valid),
    (_form(r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"), cpf.is_valid),
    (_alone(r"[0-9]{4}[ \-][0-9]{4}[ \-][0-9]{4}"), aadhaar.is_valid),
    (_alone(r"[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}"), idnr.is_valid),
    (
        _form(r"[0-9]{11}"),
        lambda said: any(each.is_valid(said) for each in (pesel, fodselsnummer, idnr, cpf, nn)),
    ),
)


@dataclass(frozen=True)
class Found:
    """`start` and `end` are places in the text."""

    kind: str
    start: int
    end: int


def found(text: str) -> list[Found]:
    """In the order of the text; none overlaps another."""
    kept: list[Found] = []
    taken = bytearray(len(text))
    for each in _all(text.translate(_PLAIN)):
        if taken.find(1, each.start, each.end) < 0:
            taken[each.start : each.end] = b"\1" * (each.end - each.start)
            kept.append(each)
    return sorted(kept, key=lambda each: each.start)


def redacted(text: str) -> tuple[str, set[str]]:
    """With `[email]` and the like in place of what is found; the kinds of that."""
    there = found(text)
    parts, start = [], 0
    for each in there:
        parts += [text[start : each.start], _INSTEAD[each.kind]]
        start = each.end
    return "".join([*parts, text[start:]]), {each.kind for each in there}


def without(preference: Preference) -> tuple[Preference, set[str]]:
    """Its prompt, answers and category redacted, and the kinds of what was found."""
    kinds: set[str] = set()

    def clean(said: Prompt) -> Prompt:
        if isinstance(said, str):
            text, there = redacted(said)
            kinds.update(there)
            return text
        messages = []
        for message in said:
            text, there = redacted(message["content"])
            kinds.update(there)
            messages.append(message | {"content": text})
        return messages

    def category_of(said: str | None) -> str | None:
        text, there = redacted(said or "")
        kinds.update(there)
        return text or None

    if isinstance(preference, Pair):
        cleaned: Preference = replace(
            preference,
            prompt=clean(preference.prompt),
            chosen=clean(preference.chosen),
            rejected=clean(preference.rejected),
            category=category_of(preference.category),
        )
    else:
        cleaned = replace(
            preference, prompt=clean(preference.prompt), completion=clean(preference.completion)
        )
    return (cleaned if kinds else preference), kinds


def redacted_row(row: bytes | dict[str, Any] | None) -> bytes | dict[str, Any] | None:
    """A row as it was read, to be kept aside."""
    if row is None:
        return None
    if isinstance(row, bytes):
        try:
            return json.dumps(_value(json.loads(row)), ensure_ascii=False).encode(errors="replace")
        except (ValueError, RecursionError):
            return redacted_source(row.decode(errors="replace")).encode()
    cleaned: dict[str, Any] = _value(row)
    return cleaned


def redacted_source(text: str) -> str:
    """Of a text that may quote JSON, in which `\\n4` is a new line and a figure, and `\\u0040` an @."""
    text = re.sub(r"\\+u00([2-7][0-9A-Fa-f])", lambda match: chr(int(match[1], 16)), text)
    return redacted(re.sub(r"\\+[nrtbf\"/]", " ", text))[0]


def _value(value: Any) -> Any:
    """A number may be a card's, too, and Parquet has columns of bytes."""
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    if isinstance(value, dict):
        return {redacted(str(name))[0]: _value(item) for name, item in value.items()}
    text, kinds = redacted(value.decode(errors="replace") if isinstance(value, bytes) else str(value))
    return text if kinds else value


def _all(text: str) -> Iterator[Found]:
    if "@" in text:
        yield from (Found("Email", *match.span()) for match in _EMAIL.finditer(text))
    if not (_FIGURES.search(text) or _CODE.search(text)):
        return
    yield from _longest("IBAN", _IBAN, text, iban.is_valid)
    for form in _CARDS:
        for match in form.finditer(text):
            number = re.sub(r"[ \-]", "", match[0])
            if _ISSUED.fullmatch(number) and luhn.is_valid(number):
                yield Found("Card", *match.span())
    for form, is_one in _NATIONAL:
        yield from (
            Found("NationalNumber", *match.span()) for match in form.finditer(text) if is_one(match[0])
        )
    yield from _longest("Phone", _ABROAD, text, _is_phone)
    yield from (
        Found("Phone", *match.span()) for match in _AMERICAN.finditer(text) if _is_phone(match[0], "US")
    )


def _longest(kind: str, form: re.Pattern[str], text: str, is_one: Callable[[str], bool]) -> Iterator[Found]:
    """The end is where it is right, whatever figures or capitals follow."""
    for match in form.finditer(text):
        start, last = match.span(1)
        for end in range(last, start, -1):
            at_end = text[end - 1].isalnum() and not text[end : end + 1].isalnum()
            if at_end and is_one(text[start:end]):
                yield Found(kind, start, end)
                break


def _is_phone(said: str, region: str | None = None) -> bool:
    number = "+" + said[2:] if said.startswith("00") else said
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number.replace("(0)", ""), region))
    except phonenumbers.NumberParseException:
        return False

"""The imperative verbs: annotations, each acted on once, when it differs from `status.handled.VERB`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from alignment_api import digests, names

_MAX_LENGTH = 256
_NUMBER = "(?P<number>[0-9]{1,9})"
# What a verb's value looks like, and how to say so; that of `run` is free.
_FORMS = {
    "approve": (f"{_NUMBER}@(?P<digest>sha256:[0-9a-f]{{4,64}})", "write NUMBER@DIGEST, as in 7@sha256:4be1"),
    "reject": (_NUMBER, "write the iteration's number, as in 7"),
    "cancel": (_NUMBER, "write the iteration's number, as in 7"),
    "rollback": (f"{_NUMBER}(@.+)?", "write NUMBER@WHY, as in 5@ticket-123; 0 is M_0"),
    "adopt": ("(?P<digest>sha256:[0-9a-f]{64})", "write the digest that the targets carry, sha256:…"),
}


@dataclass(frozen=True)
class Request:
    """A verb that was not acted on yet. `number` and `digest` are what its value names, where it names any."""

    verb: str
    value: str
    number: int | None = None
    digest: str = ""
    problem: str = ""  # what is wrong with the value


def pending(annotations: Mapping[str, str], handled: Mapping[str, str]) -> dict[str, Request]:
    """By verb."""
    requests = {}
    for verb in names.VERBS:
        value = asked(annotations, verb)
        if value and value != handled.get(verb):
            requests[verb] = _parsed(verb, value)
    return requests


def asked(annotations: Mapping[str, str], verb: str) -> str:
    """The annotation's value; of a long one its beginning and a hash: status keeps it, and must not grow with it."""
    value = annotations.get(names.verb_annotation(verb), "")
    if len(value) <= _MAX_LENGTH:
        return value
    return f"{value[:64]}… ({digests.of_bytes(value.encode())})"


def _parsed(verb: str, value: str) -> Request:
    if verb not in _FORMS:
        return Request(verb, value)
    form, hint = _FORMS[verb]
    match = re.fullmatch(form, value)
    if match is None:
        return Request(verb, value, problem=hint)
    named = match.groupdict()
    number = int(named["number"]) if "number" in named else None
    return Request(verb, value, number, named.get("digest", ""))

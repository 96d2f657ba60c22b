"""What to say of a value that breaks a field's schema: what is wrong and what to do, in plain words."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

from alignment_api import affinity, judges, names, pods, quantities, signature, trigger, uris

Schema = dict[str, Any]

# What a text must look like, by the pattern that says the same to a machine.
PATTERNS = {
    names.NAME_PATTERN: "must be lower-case letters, digits and '-', and a letter or digit at both ends",
    names.DOTTED_NAME_PATTERN: "must be lower-case letters, digits, '-' and '.', not at its ends",
    names.CONFIG_MAP_KEY_PATTERN: "must be letters, digits, '-', '_' and '.'",
    affinity.LABEL_VALUE_PATTERN: "must be letters, digits, '-', '_' and '.', and a letter or digit at both ends",
    names.LABEL_KEY_PATTERN: "must be NAME or DOMAIN/NAME, as in example.com/pool: letters, digits, '-', '_' and '.'; "
    "a letter or digit at both ends; DOMAIN in lower case",
    names.ANNOTATION_KEY_PATTERN: "must be NAME or DOMAIN/NAME, as in example.com/note: letters, digits, '-', '_' and "
    "'.'; a letter or digit at both ends",
    pods.RESOURCE_PATTERN: "must be cpu, memory, ephemeral-storage, hugepages-SIZE, or DOMAIN/NAME "
    "as in nvidia.com/gpu",
    pods.VARIABLE_PATTERN: "must be letters, digits and '_', and not begin with a digit",
    trigger.SCHEDULE_PATTERN: "is not a cron schedule of five fields (minute, hour, day of month, month, day of week); "
    "write '0 3 * * 1', for example",
    trigger.TIME_ZONE_PATTERN: "is not the name of a time zone; write Europe/Berlin, for example",
    judges.URL_PATTERN: "must be http:// or https://, a host and a path, without user, query or fragment; write "
    "https://api.openai.com/v1, for example",
    signature.PUBLIC_KEY_PATTERN: "must be the PEM of a public key on P-256, P-384 or P-521, as `openssl ec -in KEY "
    "-pubout` prints it",
    quantities.PATTERN: "is not a Kubernetes quantity; write 500m, 4 or 8Gi, for example",
}

_WRONG_NUMBER = {"float_type", "int_type", "int_from_float", "finite_number"}
_OUT_OF_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}
_WRONG_LENGTH = {"too_long", "too_short", "string_too_long", "string_too_short"}
_NUMBER_AND_UNIT = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(\S*)\s*")


def message(problem: str, written: Any, schema: Schema, field: str = "") -> str:
    """Words for one of pydantic's error types; `schema` is that of the field of this name, in structural form."""
    if problem in _WRONG_NUMBER:
        return _number(written, schema, field)
    if problem in _OUT_OF_RANGE:
        return f"must be {bounds(schema)}"
    if problem in _WRONG_LENGTH:
        return _length(written, schema)
    if problem == "literal_error":
        return suggestion(
            str(written), [str(value) for value in schema["enum"]], "is not one of its values", "values"
        )
    if problem == "string_pattern_mismatch":
        if schema["pattern"] in (uris.PATTERN, uris.SOURCE_PATTERN):
            return uri(written, buckets=schema["pattern"] == uris.SOURCE_PATTERN)
        return PATTERNS[schema["pattern"]]
    return _type(problem, written, schema, field)


def suggestion(
    written: str, known: Sequence[str], wrong: str, what: str = "fields", elsewhere: Sequence[str] = ()
) -> str:
    """`wrong`, what was meant if that can be guessed, and all known words.

    `elsewhere` are the paths of fields with this very name, for a field that was indented wrongly.
    """
    nearest = _with_word(written, known) or difflib.get_close_matches(written, known, n=1)
    meant = [f"'{nearest[0]}'"] if nearest else elsewhere[:3]
    hint = f"did you mean {' or '.join(meant)}? " if meant else ""
    return f"{wrong}; {hint}{what}: {', '.join(known)}" if known else f"{wrong}; {hint}it has no {what}"


def _with_word(written: str, known: Sequence[str]) -> list[str]:
    """Names with these initials (lr: learningRate), then those that hold the word (batchSize: perDeviceBatchSize)."""
    word = written.lower()
    abbreviated = [name for name in known if "".join(re.findall(r"^.|[A-Z]", name)).lower() == word]
    return abbreviated + [name for name in known if len(word) > 2 and word in name.lower()]


def uri(written: str, *, buckets: bool = False) -> str:
    """What is wrong with a text that is no URI of ours, and what to write instead; some may be of a bucket."""
    if re.search(r"[\s?#]", written) or not written.isprintable():
        escaped = "; write %20 for a space" if written.startswith("file://") else ""
        return f"contains a space, '?', '#' or a control character, which a URI here cannot have{escaped}"
    usage = "write pvc://CLAIM/PATH or file:///PATH"
    if buckets:
        usage = (
            "write pvc://CLAIM/PATH, file:///PATH, s3://BUCKET/KEY, gs://BUCKET/KEY or az://CONTAINER/BLOB"
        )
    scheme, separator, rest = written.partition("://")
    if not separator:
        here = f", here perhaps file://{written.replace('%', '%25')}" if written.startswith("/") else ""
        return f"is not a URI; {usage}{here}"
    if scheme not in {"pvc", "file", *(uris.BUCKET_SCHEMES if buckets else ())}:
        return f"{scheme}:// is not supported; {usage}"
    if ".." in rest.split("/"):
        return "contains '..'; name the folder itself"
    if scheme in uris.BUCKET_SCHEMES:
        return f"names no bucket; write {scheme}://BUCKET/KEY, the bucket in lower case"
    return _file_uri(rest, usage) if scheme == "file" else _claim_uri(rest)


def _file_uri(rest: str, usage: str) -> str:
    if not rest.strip("/"):
        return f"names no file; {usage}"
    if "%" in re.sub(uris.ESCAPE, "", rest):
        return "has a '%' that escapes nothing, or what needs no escape; write %20 for a space, %25 for '%'"
    return f"must have three slashes and then a path: file:///{rest.lstrip('/')}"


def _claim_uri(rest: str) -> str:
    claim = rest.partition("/")[0]
    if not claim:
        return "names no claim; write pvc://CLAIM/PATH"
    return f"names the claim '{claim}', which {PATTERNS[names.DOTTED_NAME_PATTERN]}"


_COMMAS_BETWEEN = {"targetModules"}  # fields that people take for a list
_WANTED = {
    "string_type": "text",
    "bool_type": "true or false",
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list: items that begin with '-'",
}


def _type(problem: str, written: object, schema: Schema, field: str) -> str:
    if problem == "string_type" and field in _COMMAS_BETWEEN and isinstance(written, list) and written:
        return f"must be text, with commas between names; write {','.join(map(str, written))}"
    if problem == "string_unicode":
        return "contains half of a character, by an escape such as \\ud800"
    if problem == "string_type" and isinstance(written, int | float):
        return "must be text; put it in quotes"
    fields = ", ".join(schema.get("properties", ()))
    return f"must be {_WANTED[problem]}" + (f" with the fields {fields}" if fields else "")


def _length(written: Any, schema: Schema) -> str:
    least = next(
        (schema[key] for key in ("minLength", "min_length", "minItems", "minProperties") if key in schema), 0
    )
    most = next(
        (schema[key] for key in ("maxLength", "max_length", "maxItems", "maxProperties") if key in schema),
        None,
    )
    unit = "entries" if isinstance(written, list | dict) else "characters"
    size = len(written if isinstance(written, list | dict) else str(written))
    allowed = f"at least {least}" if most is None or size < least else f"at most {most}"
    return f"has {size} {unit}; {allowed} are allowed"


def _number(written: object, schema: Schema, field: str) -> str:
    whole = schema["type"] == "integer"
    wanted = f"must be {'a whole number' if whole else 'a number'}" + (
        f" {bounds(schema)}" if bounds(schema) else ""
    )
    if not isinstance(written, str):
        return wanted
    if re.search(r"\d,\d", written):
        return f"{wanted}; " + (
            "write it without a comma" if whole else "use a point for decimals, not a comma"
        )
    match = _NUMBER_AND_UNIT.fullmatch(written)
    if match is None:
        return wanted
    number, unit = match.groups()
    fits = _fits(float(number), schema, whole=whole) and (not unit or _says_the_same(unit, field))
    offer = f"; write {_mended(number, whole=whole)}" if fits else ""
    if unit:
        return f"{wanted}, without a unit{offer}"
    return f"{wanted}, not text{offer}" + (" without quotes" if offer else "")


def _says_the_same(unit: str, field: str) -> bool:
    """Whether the unit adds nothing to the field's name: 30 % of a Percent, 3 epochs of epochs, 60 s of Seconds."""
    word = unit.lower().rstrip("s")
    if unit == "%":
        return field.endswith(("Percent", "Points"))
    return (unit == "s" and field.endswith("Seconds")) or (len(word) > 2 and word in field.lower())


def _fits(value: float, schema: Schema, *, whole: bool) -> bool:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above = value > low if schema.get("exclusiveMinimum") else value >= low
    below = value < high if schema.get("exclusiveMaximum") else value <= high
    return math.isfinite(value) and above and below and (value.is_integer() or not whole)


def _mended(number: str, *, whole: bool) -> str:
    """As YAML 1.1 reads it too: an exponent needs a point before it and a sign behind it."""
    value = float(number)
    if value.is_integer() and (whole or "e" not in number.lower()):
        return str(int(value))
    text = repr(value)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def bounds(schema: Schema) -> str:
    """`from 2 to 64`, `above 0 and at most 1`; empty if there is no limit."""
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None and not above and not below:
        return f"from {low} to {high}"
    parts = []
    if low is not None:
        parts.append(f"above {low}" if above else f"at least {low}")
    if high is not None:
        parts.append(f"below {high}" if below else f"at most {high}")
    return " and ".join(parts)

"""The imperative verbs: annotations, each acted on once, when it differs from `status.handled.VERB`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from alignment_api import digests, names

_MAX_LENGTH = 256
_NUMBER = re.compile(r"[0-9]{1,9}")
_APPROVAL = re.compile(r"([0-9]{1,9})@(sha256:[0-9a-f]{4,64})")


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
    match verb:
        case "approve":
            if match := _APPROVAL.fullmatch(value):
                return Request(verb, value, int(match[1]), match[2])
            return Request(verb, value, problem="write NUMBER@DIGEST, as in 7@sha256:4be1")
        case "reject" | "cancel":
            if _NUMBER.fullmatch(value):
                return Request(verb, value, int(value))
            return Request(verb, value, problem="write the iteration's number, as in 7")
        case "adopt":
            if re.fullmatch(r"sha256:[0-9a-f]{64}", value):
                return Request(verb, value, digest=value)
            return Request(verb, value, problem="write the digest that the targets carry, sha256:…")
        case _:
            return Request(verb, value)

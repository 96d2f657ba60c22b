"""What `spec.training.arguments` may hold: settings of the trainer that are no fields of ours and break no promise."""

from __future__ import annotations

import math

from pydantic_core import PydanticCustomError

from alignment_api import wording
from alignment_api.trainer_fields import ALLOWED, OURS

MOST = max(map(len, ALLOWED.values()))
Value = bool | int | float | str

# By spec.training.sharding. Adafactor needs whole matrices. FSDP2 cannot go on from the state of sgd, which is empty,
# and ZeRO-3 makes adagrad anew, with one group of weights.
_DIVIDED = {
    "FSDP": ("adamw_torch", "adamw_torch_fused", "adagrad", "rmsprop"),
    "ZeRO3": ("adamw_torch", "adamw_torch_fused", "rmsprop", "sgd"),
}
_WORDS: dict[type, str] = {bool: "true or false", int: "a whole number from 0", float: "a number from 0"}


def scalar(value: object) -> Value:
    """Raises PydanticCustomError if it is none."""
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise PydanticCustomError(
        "rule", "{message}", {"message": "must be a number, text, or true or false", "path": ""}
    )


def problem(method: str, name: str, value: Value) -> str:
    """Why the trainer of this method cannot have the argument, and what to do; empty if it can."""
    allowed = ALLOWED.get(method)
    if allowed is None:
        return f"is for the trainers of {', '.join(ALLOWED)}; leave it out with {method}"
    if name in OURS:
        return f"is set by spec.training.{OURS[name]}; give it there"
    if name not in allowed:
        return wording.suggestion(name, list(allowed), f"is not an argument for {method}", "arguments")
    kind = allowed[name]
    if isinstance(kind, tuple):
        return (
            ""
            if value in kind
            else wording.suggestion(str(value), kind, "is not one of its values", "values")
        )
    return "" if _fits(kind, value) else f"must be {_WORDS[kind]}"


def problem_divided(sharding: str, name: str, value: Value) -> str:
    """Likewise, of a model that is divided among processes (spec.training.sharding)."""
    able = _DIVIDED.get(sharding, ())
    if name != "optim" or not able or value in able:
        return ""
    return (
        f"{value} does not train with sharding: {sharding}; choose {', '.join(able)}, or write sharding: None"
    )


def _fits(kind: type, value: Value) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if isinstance(value, str):
        return False
    return value >= 0 and (kind is float or isinstance(value, int))

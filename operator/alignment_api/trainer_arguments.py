"""What `spec.training.arguments` may hold: settings of the trainer that are no fields of ours and break no promise."""

from __future__ import annotations

import math
from collections.abc import Mapping

from alignment_api import wording
from alignment_api.model import refused
from alignment_api.trainer_fields import ALLOWED

MOST = max(map(len, ALLOWED.values()))
Value = bool | int | float | str

# By spec.training.sharding. Adafactor needs whole matrices. FSDP2 cannot go on from the state of sgd, which is empty,
# and ZeRO-3 makes adagrad anew, with one group of weights.
_DIVIDED = {
    "FSDP": ("adamw_torch", "adamw_torch_fused", "adagrad", "rmsprop"),
    "ZeRO3": ("adamw_torch", "adamw_torch_fused", "rmsprop", "sgd"),
}
_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number"}

# From the first, and below the second; the others are from 0.
RANGES: dict[str, tuple[float, float]] = {
    "adam_beta1": (0, 1),
    "adam_beta2": (0, 1),
    "adam_epsilon": (0, 1),
    "desirable_weight": (0, 1_000_000),
    "torch_empty_cache_steps": (1, math.inf),
    "undesirable_weight": (0, 1_000_000),
    "warmup_steps": (0, 1_000_000_000),
}
_ANY = (0, math.inf)

# The trainers' names for fields of spec.training.
_OURS = {
    "beta": "beta",
    "bf16": "precision",
    "data_seed": "seed",
    "fp16": "precision",
    "gradient_accumulation_steps": "gradientAccumulationSteps",
    "learning_rate": "learningRate",
    "loss_type": "method",
    "max_length": "maxLength",
    "max_steps": "epochs",
    "num_train_epochs": "epochs",
    "per_device_train_batch_size": "perDeviceBatchSize",
    "save_steps": "checkpointEverySteps",
    "seed": "seed",
    "truncation_mode": "maxLength",
}


def scalar(value: object) -> Value:
    """Raises `pydantic_core.PydanticCustomError` if it is none."""
    if isinstance(value, float) and not math.isfinite(value):
        message = "must be a finite number"
    elif isinstance(value, bool | int | float | str):
        return value
    else:
        message = "must be a number, text, or true or false"
    raise refused(("", message))


def problem(method: str, name: str, value: Value) -> str:
    """Why the trainer of this method cannot have the argument, and what to do; empty if it can."""
    allowed = ALLOWED.get(method)
    if allowed is None:
        return f"is for the trainers of {', '.join(ALLOWED)}; leave it out with {method}"
    if name in _OURS:
        return f"is set by spec.training.{_OURS[name]}; give it there"
    if name not in allowed:
        return wording.suggestion(name, list(allowed), f"is not an argument for {method}", "arguments")
    kind = allowed[name]
    if isinstance(kind, tuple):
        return (
            ""
            if value in kind
            else wording.suggestion(str(value), kind, "is not one of its values", "values")
        )
    return "" if _fits(kind, value) and _in_range(name, value) else f"must be {_wanted(kind, name)}"


def problem_together(arguments: Mapping[str, Value]) -> tuple[str, str]:
    """Likewise, of arguments that are fine one by one: the name and why; both empty if there is none."""
    weights = [arguments.get(name, 1.0) for name in ("desirable_weight", "undesirable_weight")]
    if any(weights):
        return "", ""
    return "undesirable_weight", "must be above 0 when desirable_weight is 0, or nothing is learned"


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
    return isinstance(value, int) or (isinstance(value, float) and kind is float)


def _in_range(name: str, value: Value) -> bool:
    low, high = RANGES.get(name, _ANY)
    return isinstance(value, bool | str) or low <= value < high


def _wanted(kind: type, name: str) -> str:
    low, high = RANGES.get(name, _ANY)
    if kind is bool:
        return _KINDS[kind]
    return f"{_KINDS[kind]} from {low}" + (f", below {high}" if math.isfinite(high) else "")

"""How gates write numbers, and what they say when measurements are not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import ceil

from alignment_api import numbers
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.measurements import Measurement

MAX_LENGTH = 1024
number = numbers.number


def error(gate: Gate, reason: GateReason, message: str) -> GateResult:
    return GateResult(name=gate, verdict=Verdict.ERROR, reason=reason, message=message[:MAX_LENGTH])


def unusable(measurements: Mapping[str, Measurement | None]) -> tuple[GateReason, str] | None:
    """Why a gate cannot judge by these measurements; None if it can."""
    for name, measurement in measurements.items():
        if measurement is None:
            return GateReason.MEASUREMENT_MISSING, f"{name} was not measured"
        if measurement.n == 0:
            return GateReason.TOO_LITTLE_WORK, f"{name} was measured on nothing"
        if measurement.estimate is None:
            return (
                GateReason.MEASUREMENT_MISSING,
                f"{name} could not be computed from {measurement.n} values",
            )
        if (
            measurement.low is not None
            and measurement.high is not None
            and measurement.low > measurement.high
        ):
            return GateReason.MEASUREMENT_MISSING, f"{name} came with an interval that is none"
    return None


def interval(measurement: Measurement, digits: int = 1) -> str:
    """`[−1.1, 6.1]`; an end that is not known is infinite."""
    return numbers.interval(measurement.low, measurement.high, digits)


def chance(p: float | None) -> str:
    """`p = 0.012`; a tiny one only as such."""
    assert p is not None
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def joined(parts: Iterable[str], limit: int = MAX_LENGTH) -> str:
    """The parts between semicolons; those that do not fit are counted."""
    parts = list(parts)
    for shown in range(len(parts), 0, -1):
        rest = len(parts) - shown
        text = "; ".join([*parts[:shown], *([f"and {rest} more"] if rest else [])])
        if len(text) <= limit:
            return text
    return parts[0][: limit - 1] + "…" if parts else ""


def enough(measurement: Measurement, limit: float, items: str) -> str:
    """What would settle on which side of the limit the truth lies, if the estimate stays where it is.

    An interval narrows with the square root of the number of items.
    """
    estimate, end = measurement.estimate, measurement.high
    if estimate is not None and estimate > limit:
        end = measurement.low
    if estimate is None or end is None:
        return f"more {items} would settle it"
    distance = abs(estimate - limit)
    if distance < 1e-9 * max(1.0, abs(limit)):
        return f"no number of {items} settles it while it stays at the limit"
    needed = ceil(measurement.n * ((end - estimate) / distance) ** 2)
    if needed > 100 * measurement.n:
        return f"it is too close to the limit for more {items} to settle it"
    return f"about {max(needed, measurement.n + 1)} {items} would settle it if it stays so"

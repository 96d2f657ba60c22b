"""How the page writes numbers."""

from __future__ import annotations

from math import floor, log10

from alignment_api.iteration_report import Measured
from alignment_api.measurements import Measurement

_UNKNOWN = "not known"


def number(value: float, digits: int = 1, *, signed: bool = False) -> str:
    """With a true minus sign, and without one for what rounds to zero."""
    text = f"{round(value, 9):{'+' if signed else ''},.{digits}f}"
    if not text.strip("+-0.,"):
        return text.lstrip("+-")
    return text.replace("-", "−")


def rough(value: float) -> str:
    """Three significant digits, for axes and logs."""
    if not value:
        return "0"
    size = floor(log10(abs(value)))
    if -4 <= size < 6:
        text = number(value, max(0, 2 - size))
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.2g}".replace("-", "−")


def count(value: int) -> str:
    return f"{value:,}"


def interval(measurement: Measurement, digits: int = 1) -> str:
    """`[−1.1, 6.1]`; empty if there is none."""
    if measurement.low is None and measurement.high is None:
        return ""
    low = "−∞" if measurement.low is None else number(measurement.low, digits)
    high = "∞" if measurement.high is None else number(measurement.high, digits)
    return f"[{low}, {high}]"


def estimate(measured: Measured) -> str:
    """With its unit."""
    if measured.measurement.estimate is None:
        return _UNKNOWN
    value = number(measured.measurement.estimate, measured.digits, signed=measured.signed)
    return f"{value} {measured.unit}".rstrip()


def allowed(measured: Measured) -> str:
    """`at least −2.0`, `0.20 to 1.30`; empty if nothing is forbidden."""
    least, most = (
        None if limit is None else number(limit, measured.digits) for limit in (measured.least, measured.most)
    )
    if least is not None and most is not None:
        return f"{least} to {most}"
    if least is not None:
        return f"at least {least}"
    return f"at most {most}" if most is not None else ""


def seconds(value: float) -> str:
    """1 h 2 min, 3 min 4 s, 5 s."""
    whole = round(value)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def words(name: str) -> str:
    """meanTokens → mean tokens."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)

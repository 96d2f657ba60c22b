"""How the page writes numbers."""

from __future__ import annotations

from math import floor, log10

from alignment_api import numbers
from alignment_api.measurements import Measurement


def rough(value: float) -> str:
    """Three significant digits, for axes and logs."""
    if not value:
        return "0"
    size = floor(log10(abs(value)))
    if -4 <= size < 6:
        text = numbers.number(value, max(0, 2 - size))
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.2g}".replace("-", "−")


def count(value: int) -> str:
    return f"{value:,}"


def interval(measurement: Measurement, digits: int = 1) -> str:
    """Empty if there is none."""
    low, high = measurement.low, measurement.high
    return "" if low is None and high is None else numbers.interval(low, high, digits)


def seconds(value: float) -> str:
    """1 h 2 min, 3 min 4 s, 5 s."""
    whole = round(value)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"


def words(name: str) -> str:
    """meanTokens → mean tokens."""
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)

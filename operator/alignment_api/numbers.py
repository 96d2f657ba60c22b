"""How numbers are written for people: in a gate's message, in the terminal, in the report."""

from __future__ import annotations


def number(value: float, digits: int = 1, *, signed: bool = False) -> str:
    """With a true minus sign, and without one for what rounds to zero.

    What differs by rounding alone, on its way through a report of four digits, is written the same.
    """
    text = f"{round(value, 9):{'+' if signed else ''}.{digits}f}"
    if not text.strip("+-0."):
        return text.lstrip("+-")
    return text.replace("-", "−")


def interval(low: float | None, high: float | None, digits: int = 1) -> str:
    """`[−1.1, 6.1]`; an end that is not known is infinite."""
    lower = "−∞" if low is None else number(low, digits)
    upper = "∞" if high is None else number(high, digits)
    return f"[{lower}, {upper}]"

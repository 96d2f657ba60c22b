"""Measurements for the gates' tests, written out by hand."""

from __future__ import annotations

from alignment_api.measurements import Measurement


def gold(
    points: float, *, p: float = 1.0, discordant: float = 0.1, n: int = 300, lower_bound: float = -100.0
) -> Measurement:
    """A change of accuracy with its harm test."""
    return Measurement(
        estimate=points,
        low=points - 5,
        high=points + 5,
        n=n,
        p=p,
        discordant=discordant,
        lower_bound=lower_bound,
    )


def within(estimate: float, low: float | None, high: float | None, n: int = 200) -> Measurement:
    return Measurement(estimate=estimate, low=low, high=high, n=n)


def at(estimate: float, n: int = 200) -> Measurement:
    """Without an interval to speak of."""
    return Measurement(estimate=estimate, low=estimate, high=estimate, n=n)


MISSING = Measurement(estimate=None, n=50)
NOTHING = Measurement(estimate=None, n=0)

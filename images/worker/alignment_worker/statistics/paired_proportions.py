"""The score interval for a difference of two proportions on the same items."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

from scipy.optimize import brentq

_NEAR = 1e-9


def score_interval(gains: int, losses: int, items: int, z: float) -> tuple[float, float]:
    """(gains − losses) / items and all differences that its score test does not reject, as shares in [−1, 1].

    Tango (1998), Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design, Statistics in Medicine 17, 891–908: the ends solve
    (gains − losses − items·Δ)² = z²·items·(2·q(Δ) + Δ·(1 − Δ)), where q(Δ) is the share of losses that is most
    likely when the difference is Δ. Without a discordant item they are ±z² / (items + z²): never a point.
    """
    difference = (gains - losses) / items

    def excess(delta: float) -> float:
        return (gains - losses - items * delta) ** 2 - z**2 * items * _variance(delta, gains, losses, items)

    return _end(excess, difference, -1.0), _end(excess, difference, 1.0)


def _variance(delta: float, gains: int, losses: int, items: int) -> float:
    linear = (2 * items - gains + losses) * delta - gains - losses
    constant = -losses * delta * (1 - delta)
    losses_share = (sqrt(max(linear**2 - 8 * items * constant, 0.0)) - linear) / (4 * items)
    return max(2 * losses_share + delta * (1 - delta), 0.0)


def _end(excess: Callable[[float], float], difference: float, bound: float) -> float:
    inside = difference + _NEAR * bound
    if abs(inside) >= 1:
        return bound
    if excess(inside) >= 0:
        return difference
    return float(brentq(excess, inside, bound))

"""Intervals by resampling items, and what holds where there is too little to resample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIN_ITEMS = 5  # fewer items have no interval: resampling them says next to nothing about others
RESAMPLES = 9_999
_ELEMENTS_AT_ONCE = 4_000_000

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]
NO_INTERVAL: Interval = (None, None)


def check_paired(one: Sequence[Any], other: Sequence[Any]) -> None:
    """Raises ValueError unless both have the same length."""
    if len(one) != len(other):
        raise ValueError(f"{len(one)} items cannot be paired with {len(other)}")


def bootstrap_interval(
    samples: Sequence[Floats],
    statistic: Callable[..., Any],
    residuals: Floats,
    confidence: float,
    seed: int,
    alternative: Literal["two-sided", "greater"] = "two-sided",
) -> Interval:
    """Bias-corrected and accelerated bootstrap by item (Efron 1987), by `scipy.stats.bootstrap`.

    `samples`: arrays of the same length, resampled together. `statistic(*samples, axis)` is vectorised.
    `residuals`: how far each item pulls the statistic; where none pulls, every resample gives the same and the
    interval is that point. Fewer than MIN_ITEMS items have no interval.
    """
    size = len(residuals)
    if size < MIN_ITEMS:
        return NO_INTERVAL
    if float(np.abs(residuals).max()) <= 1e-12 * max(float(np.abs(sample).max()) for sample in samples):
        point = float(statistic(*samples, axis=-1))
        return point, point
    interval = stats.bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, _ELEMENTS_AT_ONCE // size),
        vectorized=True,
        paired=True,
        confidence_level=confidence,
        alternative=alternative,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return _finite(interval.low), _finite(interval.high)


def jackknife_interval(estimate: float, left_out: Floats, confidence: float) -> Interval:
    """Student's t around the estimate, with the standard error of the delete-one jackknife.

    `left_out`: the statistic without each item. For any symmetric statistic of independent items the jackknife's
    variance is on average too large, never too small (Efron and Stein 1981, The Annals of Statistics 9).
    """
    size = len(left_out)
    if size < MIN_ITEMS:
        return NO_INTERVAL
    variance = (size - 1) / size * float(np.square(left_out - left_out.mean()).sum())
    reach = float(stats.t.ppf((1 + confidence) / 2, size - 1)) * variance**0.5
    return estimate - reach, estimate + reach


def _finite(end: float) -> float | None:
    return float(end) if np.isfinite(end) else None

"""Means and their changes, paired by prompt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from alignment_api.measurements import Measurement
from alignment_worker.statistics.confidence import check_confidence
from alignment_worker.statistics.resampling import (
    MIN_ITEMS,
    bootstrap_interval,
    check_paired,
)


def mean(values: Sequence[float], confidence: float) -> Measurement:
    """The mean, in the values' unit, with Student's t interval; null without values or with one not finite.

    Raises ValueError.
    """
    check_confidence(confidence)
    array = np.asarray(values, dtype=np.float64)
    if not len(array) or not np.isfinite(array).all():
        return Measurement(estimate=None, n=len(array))
    estimate = float(array.mean())
    if len(array) < MIN_ITEMS:
        return Measurement(estimate=estimate, n=len(array))
    reach = float(stats.t.ppf((1 + confidence) / 2, len(array) - 1) * array.std(ddof=1) / len(array) ** 0.5)
    return Measurement(estimate=estimate, low=estimate - reach, high=estimate + reach, n=len(array))


def mean_change(after: Sequence[float], before: Sequence[float], confidence: float, seed: int) -> Measurement:
    """Mean of `after` minus mean of `before`, paired by position, in the values' unit.

    The interval is the bootstrap's of the differences. Null without pairs or with a value that is not finite.
    Raises ValueError.
    """
    check_confidence(confidence)
    check_paired(after, before)
    changes = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    if not len(changes) or not np.isfinite(changes).all():
        return Measurement(estimate=None, n=len(changes))
    estimate = float(changes.mean())
    low, high = bootstrap_interval([changes], np.mean, changes - estimate, confidence, seed)
    return Measurement(estimate=estimate, low=low, high=high, n=len(changes))

"""A share, with its exact interval."""

from __future__ import annotations

from scipy import stats

from alignment_api.measurements import Measurement
from alignment_worker.statistics.confidence import check_confidence


def percent(successes: int, count: int, confidence: float) -> Measurement:
    """`successes` of `count` independent trials, in percent; null without any.

    The interval is exact (Clopper and Pearson 1934, Biometrika 26). Raises ValueError.
    """
    check_confidence(confidence)
    if not count:
        return Measurement(estimate=None, n=0)
    interval = stats.binomtest(successes, count).proportion_ci(confidence, method="exact")
    return Measurement(
        estimate=100 * successes / count,
        low=100 * float(interval.low),
        high=100 * float(interval.high),
        n=count,
    )

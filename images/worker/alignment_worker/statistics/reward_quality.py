"""How well a reward model tells chosen from rejected answers: numbers from its scores alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special, stats

from alignment_api.measurements import Measurement
from alignment_worker.statistics.mean_change import mean
from alignment_worker.statistics.proportions import percent
from alignment_worker.statistics.resampling import check_paired


def accuracy(margins: Sequence[float], confidence: float) -> Measurement:
    """Percent of pairs whose margin, chosen minus rejected score, is above 0.

    The interval is exact (Clopper and Pearson 1934, Biometrika 26), for pairs that are independent. Null without
    pairs. Raises ValueError.
    """
    return percent(sum(margin > 0 for margin in margins), len(margins), confidence)


def brier_score(margins: Sequence[float], confidence: float) -> Measurement:
    """Mean of (1 − σ(margin))², the probability's squared error (Brier 1950): 0 is best, 0.25 a coin's."""
    return mean(special.expit(-np.asarray(margins, dtype=np.float64)) ** 2, confidence)


def overconfidence(margins: Sequence[float], confidence: float) -> Measurement:
    """Percentage points by which the probability of what is preferred exceeds how often that is right.

    Of a pair with margin m the probability is σ(|m|). Above 0 the model is surer than it should be.
    """
    array = np.asarray(margins, dtype=np.float64)
    return mean(100 * (special.expit(np.abs(array)) - (array > 0)), confidence)


def length_correlation(scores: Sequence[float], lengths: Sequence[int]) -> Measurement:
    """Spearman's rank correlation of answers' scores and lengths; null where either is the same for all."""
    check_paired(scores, lengths)
    if len(set(scores)) < 2 or len(set(lengths)) < 2:
        return Measurement(estimate=None, n=len(scores))
    return Measurement(estimate=float(stats.spearmanr(scores, lengths).statistic), n=len(scores))

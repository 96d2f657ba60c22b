"""Change of accuracy between two models on the same checkable items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from alignment_api.measurements import Measurement
from alignment_worker.statistics.confidence import check_confidence
from alignment_worker.statistics.paired_proportions import score_interval
from alignment_worker.statistics.resampling import (
    RESAMPLES,
    Floats,
    bootstrap_interval,
    check_paired,
)


def paired_accuracy(
    before: Sequence[Sequence[bool]], after: Sequence[Sequence[bool]], confidence: float, seed: int
) -> Measurement:
    """Accuracy of `after` minus accuracy of `before`, in percentage points, paired by item.

    `before` and `after`: items × samples, whether each answer is right; every item has at least one sample.
    One sample an item: p is the exact binomial test's on the discordant items (McNemar), the interval Tango's
    (1998). Several: p is the sign-flip permutation test's on the differences of item means, exact where there
    are few items; the interval is the bootstrap's by item, but never narrower than Tango's around as many items
    of which none changed. `discordant` is the share of items whose outcome changed, and with several samples
    the mean squared change of an item's accuracy, which is what that share is for one sample. `lower_bound` is
    one-sided, of the change in points. Without items the estimate is null. Raises ValueError.
    """
    check_confidence(confidence)
    check_paired(before, after)
    if not before:
        return Measurement(estimate=None, n=0)
    if not all(before) or not all(after):
        raise ValueError("an item has no sample")
    if all(len(samples) == 1 for samples in (*before, *after)):
        return _one_sample(
            gains=sum(new[0] and not old[0] for old, new in zip(before, after, strict=True)),
            losses=sum(old[0] and not new[0] for old, new in zip(before, after, strict=True)),
            items=len(before),
            confidence=confidence,
        )
    means = [np.array([np.mean(samples) for samples in model], dtype=np.float64) for model in (before, after)]
    return _several_samples(means[1] - means[0], confidence, seed)


def _one_sample(gains: int, losses: int, items: int, confidence: float) -> Measurement:
    low, high = score_interval(gains, losses, items, _z((1 + confidence) / 2))
    discordant = gains + losses
    harm = stats.binomtest(losses, discordant, 0.5, alternative="greater").pvalue if discordant else 1.0
    return Measurement(
        estimate=100 * (gains - losses) / items,
        low=100 * low,
        high=100 * high,
        n=items,
        p=float(harm),
        discordant=discordant / items,
        lower_bound=100 * score_interval(gains, losses, items, _z(confidence))[0],
    )


def _several_samples(changes: Floats, confidence: float, seed: int) -> Measurement:
    items, estimate = len(changes), float(changes.mean())
    return Measurement(
        estimate=100 * estimate,
        low=_lower(changes, (1 + confidence) / 2, seed),
        high=-_lower(-changes, (1 + confidence) / 2, seed),
        n=items,
        p=_harm(changes, seed),
        discordant=float(np.square(changes).mean()),
        lower_bound=_lower(changes, confidence, seed),
    )


def _lower(changes: Floats, confidence: float, seed: int) -> float:
    """The one-sided lower bound in points."""
    low, _ = bootstrap_interval(
        [changes], np.mean, changes - changes.mean(), confidence, seed, alternative="greater"
    )
    unchanged, _ = score_interval(0, 0, len(changes), _z(confidence))
    estimate = float(changes.mean())
    return 100 * max(-1.0, min(-1.0 if low is None else low, estimate + unchanged))


def _harm(changes: Floats, seed: int) -> float:
    """One-sided p of the hypothesis that each item's change could as well have had the other sign."""
    changed = changes[changes != 0]
    if not len(changed):
        return 1.0
    if len(changed) == 1:  # both signs, which permutation_test does not take
        return 0.5 if changed[0] < 0 else 1.0
    return float(
        stats.permutation_test(
            (changed,),
            np.sum,
            permutation_type="samples",
            alternative="less",
            n_resamples=RESAMPLES,
            batch=1_000,
            vectorized=True,
            rng=np.random.default_rng(seed),
        ).pvalue
    )


def _z(confidence: float) -> float:
    return float(stats.norm.ppf(confidence))

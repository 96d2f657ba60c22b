"""Ratio of lengths and changes of shares, paired by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from alignment_api.measurements import Measurement
from alignment_worker.statistics.confidence import check_confidence
from alignment_worker.statistics.paired_proportions import score_interval
from alignment_worker.statistics.resampling import bootstrap_interval, check_paired


def length_ratio(
    candidate_tokens: Sequence[int], incumbent_tokens: Sequence[int], confidence: float, seed: int
) -> Measurement:
    """R = sum of the candidate's tokens over sum of the incumbent's, on the same prompts.

    The interval is the paired bootstrap's by prompt. Without prompts, or where the incumbent wrote nothing, the
    estimate is null. Raises ValueError.
    """
    check_confidence(confidence)
    check_paired(candidate_tokens, incumbent_tokens)
    candidate = np.asarray(candidate_tokens, dtype=np.float64)
    incumbent = np.asarray(incumbent_tokens, dtype=np.float64)
    if (candidate < 0).any() or (incumbent < 0).any():
        raise ValueError("a number of tokens is negative")
    if not incumbent.sum():
        return Measurement(estimate=None, n=len(incumbent))
    ratio = float(_ratio(candidate, incumbent))
    low, high = bootstrap_interval(
        [candidate, incumbent], _ratio, candidate - ratio * incumbent, confidence, seed
    )
    return Measurement(estimate=ratio, low=low, high=high, n=len(incumbent))


def per_token(nats: Sequence[float], tokens: Sequence[int], confidence: float, seed: int) -> Measurement:
    """Σ nats over Σ tokens of the same answers, in nats a token; the interval is the bootstrap's by answer.

    Null without tokens, or with a value that is not finite. Raises ValueError.
    """
    check_confidence(confidence)
    check_paired(nats, tokens)
    above, below = np.asarray(nats, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    if not below.sum() or not np.isfinite(above).all():
        return Measurement(estimate=None, n=len(below))
    ratio = float(_ratio(above, below))
    low, high = bootstrap_interval([above, below], _ratio, above - ratio * below, confidence, seed)
    return Measurement(estimate=ratio, low=low, high=high, n=len(below))


def share_change(candidate: Sequence[bool], incumbent: Sequence[bool], confidence: float) -> Measurement:
    """Share of the candidate's flags minus the incumbent's on the same prompts, in percentage points.

    The interval is Tango's (1998). Null without prompts. Raises ValueError.
    """
    check_confidence(confidence)
    check_paired(candidate, incumbent)
    if not candidate:
        return Measurement(estimate=None, n=0)
    gains = sum(new and not old for new, old in zip(candidate, incumbent, strict=True))
    losses = sum(old and not new for new, old in zip(candidate, incumbent, strict=True))
    low, high = score_interval(gains, losses, len(candidate), float(stats.norm.ppf((1 + confidence) / 2)))
    return Measurement(
        estimate=100 * (gains - losses) / len(candidate), low=100 * low, high=100 * high, n=len(candidate)
    )


def _ratio(candidate: Any, incumbent: Any, axis: int = -1) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return candidate.sum(axis=axis) / incumbent.sum(axis=axis)

"""Diversity across prompts: distinct n-grams and identical answers, one answer a prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from alignment_api.measurements import Measurement
from alignment_worker.statistics.confidence import check_confidence
from alignment_worker.statistics.resampling import Floats, check_paired, jackknife_interval

Answers = Sequence[Sequence[int]]  # token ids of one answer a prompt, EOS counted
Bigram = tuple[int, int]


def distinct2_drop(candidate: Answers, incumbent: Answers, confidence: float) -> Measurement:
    """Relative drop of distinct-2 at equal token counts, in percent; positive is worse.

    Distinct-2 (Li et al. 2016) is the share of bigrams, over the answers to all prompts, that are different
    from each other. It falls as text gets longer, so both answers to a prompt are cut to the shorter one.
    n counts the prompts where both then have a bigram; without any the estimate is null. The interval is that
    of the delete-one jackknife by prompt on the logarithm of the ratio: a bootstrap draws prompts twice, and
    every bigram of a prompt drawn twice is a repetition. Raises ValueError.
    """
    check_confidence(confidence)
    check_paired(candidate, incumbent)
    cut = [min(len(one), len(other)) for one, other in zip(candidate, incumbent, strict=True)]
    kept = [index for index, length in enumerate(cut) if length > 1]
    if not kept:
        return Measurement(estimate=None, n=0)
    new, new_left_out = _log_distinct([list(pairwise(candidate[index][: cut[index]])) for index in kept])
    old, old_left_out = _log_distinct([list(pairwise(incumbent[index][: cut[index]])) for index in kept])
    low, high = jackknife_interval(new - old, new_left_out - old_left_out, confidence)
    return Measurement(estimate=_drop(new - old), low=_drop(high), high=_drop(low), n=len(kept))


def identical_change(candidate: Answers, incumbent: Answers, confidence: float) -> Measurement:
    """Change of the share of answers that equal another prompt's answer, in percentage points.

    The interval is that of the delete-one jackknife by prompt: whether an answer is repeated depends on the
    other prompts, which an interval for independent flags would not know. Null without prompts. Raises
    ValueError.
    """
    check_confidence(confidence)
    check_paired(candidate, incumbent)
    if not candidate:
        return Measurement(estimate=None, n=0)
    new, new_left_out = _identical(candidate)
    old, old_left_out = _identical(incumbent)
    low, high = jackknife_interval(new - old, new_left_out - old_left_out, confidence)
    return Measurement(
        estimate=100 * (new - old),
        low=None if low is None else 100 * max(low, -1.0),
        high=None if high is None else 100 * min(high, 1.0),
        n=len(candidate),
    )


def _log_distinct(bigrams: Sequence[Sequence[Bigram]]) -> tuple[float, Floats]:
    """The logarithm of distinct-2, and the same without each answer (nothing if there is only one answer)."""
    counts = Counter(bigram for answer in bigrams for bigram in answer)
    total = sum(counts.values())
    value = float(np.log(len(counts) / total))
    if len(bigrams) == 1:
        return value, np.zeros(0)
    own = np.array(
        [sum(counts[bigram] == times for bigram, times in Counter(answer).items()) for answer in bigrams]
    )
    return value, np.log((len(counts) - own) / (total - np.array([len(answer) for answer in bigrams])))


def _identical(answers: Answers) -> tuple[float, Floats]:
    """The share of answers that are repeated, and the same without each answer."""
    counts = Counter(tuple(answer) for answer in answers)
    size = len(answers)
    repeated = sum(times for times in counts.values() if times > 1)
    if size == 1:
        return 0.0, np.zeros(0)
    lost = np.array([_repeated_lost(counts[tuple(answer)]) for answer in answers])
    return repeated / size, (repeated - lost) / (size - 1)


def _repeated_lost(times: int) -> int:
    """How many repeated answers fewer there are when one of an answer that occurs so often is left out."""
    return 0 if times == 1 else 2 if times == 2 else 1


def _drop(log_ratio: float | None) -> float | None:
    return None if log_ratio is None else 100 * (1 - float(np.exp(log_ratio)))

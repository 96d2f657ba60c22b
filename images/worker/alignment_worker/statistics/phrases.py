"""A phrase that the candidate says again and again, and the incumbent did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from alignment_api.measurements import Measurement
from alignment_worker.statistics.diversity import Answers
from alignment_worker.statistics.ratios import share_change
from alignment_worker.statistics.resampling import check_paired

LENGTH = 4  # tokens: "prefer this answer."
_START = -1  # no token; it and an opening of three make a phrase, as an ending's three do with EOS


def new_phrase(candidate: Answers, incumbent: Answers, confidence: float) -> Measurement:
    """How much the share of answers with one phrase rose, in percentage points; of all phrases the most.

    A phrase is LENGTH tokens in a row, the answer's start counting as one. The interval is Tango's for that phrase, and
    says nothing of there being others to choose from: it matters where a rise is small. 0 if no phrase rose, null
    without prompts. Raises ValueError.
    """
    check_paired(candidate, incumbent)
    new, old = [_phrases(answer) for answer in candidate], [_phrases(answer) for answer in incumbent]
    rise = Counter(phrase for answer in new for phrase in answer)
    rise.subtract(phrase for answer in old for phrase in answer)
    most = max(sorted(rise), key=rise.__getitem__, default=None)
    if most is None or rise[most] <= 0:
        return share_change([False] * len(candidate), [False] * len(candidate), confidence)
    return share_change([most in answer for answer in new], [most in answer for answer in old], confidence)


def _phrases(answer: Sequence[int]) -> set[tuple[int, ...]]:
    marked = [_START, *answer]
    return {tuple(marked[start : start + LENGTH]) for start in range(len(marked) - LENGTH + 1)}

"""What a revision looks like: lengths, and whether the longer answer is the one that is chosen."""

from __future__ import annotations

from collections import Counter

import numpy as np

from alignment_worker.ingestion.staging import Records

_DIFFERS = 1.1  # answers whose lengths differ by less say nothing of length


class Measured:
    """Counts of the rows that stay. Lengths in characters, without the system's messages."""

    def __init__(self) -> None:
        self.pairs = self.unpaired = self.longer_chosen = self.shorter_chosen = 0
        self._prompts: Counter[int] = Counter()
        self._answers: Counter[int] = Counter()

    def add(self, kept: Records) -> None:
        pairs = kept[kept["paired"] == 1]
        chosen, rejected = (pairs[name].astype(np.int64) for name in ("first", "second"))
        self.pairs += len(pairs)
        self.unpaired += len(kept) - len(pairs)
        self.longer_chosen += int((chosen > rejected * _DIFFERS).sum())
        self.shorter_chosen += int((rejected > chosen * _DIFFERS).sum())
        _tally(self._prompts, kept["prompt"])
        _tally(self._answers, kept["first"])
        _tally(self._answers, pairs["second"])

    def counts(self) -> dict[str, int]:
        return {
            "kept": self.pairs + self.unpaired,
            "unpaired": self.unpaired,
            "longerChosen": self.longer_chosen,
            "shorterChosen": self.shorter_chosen,
            "medianPromptCharacters": _median(self._prompts),
            "medianCompletionCharacters": _median(self._answers),
        }


def _tally(tallies: Counter[int], lengths: Records) -> None:
    for length, count in zip(*np.unique(lengths, return_counts=True), strict=True):
        tallies[int(length)] += int(count)


def _median(tallies: Counter[int]) -> int:
    """Of an even number the lower of the two in the middle."""
    left = (tallies.total() + 1) // 2
    for length in sorted(tallies):
        left -= tallies[length]
        if left <= 0:
            return length
    return 0

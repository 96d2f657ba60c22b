"""What a revision looks like: lengths, and whether the longer answer is the one that is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from alignment_worker.ingestion.staging import Records

MOST_MODELS = 4  # of a report, those with the most rows; the data card has all
_DIFFERS = 1.1  # answers whose lengths differ by less say nothing of length


class Measured:
    """Counts of the rows that stay. Lengths in characters, without the system's messages."""

    def __init__(self) -> None:
        self.pairs = self.unpaired = self.longer_chosen = self.shorter_chosen = 0
        self._prompts: Counter[int] = Counter()
        self._answers: Counter[int] = Counter()

    def add(self, kept: Records) -> None:
        pairs = kept[kept["paired"] == 1]
        longer, shorter = _differing(pairs)
        self.pairs += len(pairs)
        self.unpaired += len(kept) - len(pairs)
        self.longer_chosen += longer
        self.shorter_chosen += shorter
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


@dataclass
class Group:
    """Of the rows of a source, or with an answer of a model."""

    rows: int = 0
    longer_chosen: int = 0
    shorter_chosen: int = 0

    def add(self, kept: Records) -> None:
        pairs = kept[kept["paired"] == 1]
        longer, shorter = _differing(pairs)
        self.rows += len(kept)
        self.longer_chosen += longer
        self.shorter_chosen += shorter

    @property
    def longer_share(self) -> str:
        """For people."""
        differing = self.longer_chosen + self.shorter_chosen
        return f"{100 * self.longer_chosen / differing:.1f} % of {differing}" if differing else "not known"


class Groups:
    """Rows that stay, by source and by model."""

    def __init__(self, sources: Iterable[str], models: Iterable[str]) -> None:
        self.sources = {name: Group() for name in sources}
        self.models = {digest: Group() for digest in models}

    def add_models(self, kept: Records) -> None:
        """Numbers of models are their places, from 1."""
        there = np.unique(np.concatenate([kept["one"], kept["other"]]))
        digests = list(self.models)
        for number in there[there > 0].tolist():
            self.models[digests[number - 1]].add(kept[(kept["one"] == number) | (kept["other"] == number)])

    def told(self) -> list[tuple[str, Group]]:
        """Models of which rows stay, those with the most first."""
        kept = [(digest, group) for digest, group in self.models.items() if group.rows]
        return sorted(kept, key=lambda each: (-each[1].rows, each[0]))

    def counts(self) -> dict[str, int]:
        found = {f"source/{name}": group.rows for name, group in self.sources.items()}
        told = self.told()[:MOST_MODELS]
        found |= {f"model/{digest}": group.rows for digest, group in told}
        for kind, groups in (("source", self.sources.items()), ("model", told)):
            for name, group in groups:
                if group.longer_chosen + group.shorter_chosen:
                    found[f"longer/{kind}/{name}"] = group.longer_chosen
                    found[f"shorter/{kind}/{name}"] = group.shorter_chosen
        return found


def _differing(pairs: Records) -> tuple[int, int]:
    """In how many the longer answer is chosen, and in how many the shorter one."""
    chosen, rejected = (pairs[name].astype(np.int64) for name in ("first", "second"))
    return int((chosen > rejected * _DIFFERS).sum()), int((rejected > chosen * _DIFFERS).sum())


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

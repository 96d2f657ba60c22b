"""The rows of a revision: those that stay are written with their ordinals and measured, the others are put aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alignment_worker.ingestion.deciding import (
    CAPPED,
    CONFLICTING,
    DUPLICATE,
    FILTERED,
    NEAR_DUPLICATE,
)
from alignment_worker.ingestion.languages import Languages
from alignment_worker.ingestion.measured import Groups, Measured
from alignment_worker.ingestion.ordinals import Numbers
from alignment_worker.ingestion.rejected import Rejected, Why
from alignment_worker.ingestion.staging import Records, Staging
from alignment_worker.progress import Progress

if TYPE_CHECKING:
    from alignment_worker.ingestion.flagging import Quality

_PROBLEMS = {
    CONFLICTING: (Why.CONFLICTING, "the same answers are judged the other way, too"),
    CAPPED: (Why.CAPPED, "the source has more rows than maxPairsPerSource; those that are read last stay"),
}


class Writing:
    """`codes` are as `deciding` has them. What the rows hold is known when all are written."""

    def __init__(
        self, staging: Staging, codes: Numbers, sequence: int, rejected: Rejected, quality: Quality | None
    ) -> None:
        """`sequence`: the highest ordinal before."""
        self._staging = staging
        self._codes = codes
        self._sequence = sequence
        self._rejected = rejected
        self._quality = quality
        self._measured = Measured()
        self._by_judge = {part.source: 0 for part in staging.parts if part.judged}
        self.new = Measured()
        self.groups = Groups((part.source for part in staging.parts), staging.models)
        self.languages = Languages(int(np.count_nonzero(codes > 0)))

    def all(self, file: Path, progress: Progress) -> None:
        """Raises OSError."""
        progress.begin(self._staging.count, "rows", "writing")
        with file.open("wb", buffering=1 << 20) as kept:
            for start, records, lines in self._staging.chunks():
                codes = self._codes[start : start + len(records)]
                self._measure(start, records, codes)
                sampled = self.languages.sampled(records).tolist()
                there_are = zip(codes.tolist(), sampled, lines, strict=True)
                for place, (code, is_sampled, line) in enumerate(there_are, start):
                    if code > 0:
                        kept.write(b'{"ordinal":%d,%b' % (code, line[1:]))
                        if is_sampled:
                            self.languages.add(line)
                    else:
                        self._aside(place, code, line)
                progress.advance(len(records))

    def counts(self) -> dict[str, int]:
        judged = {f"judged/{name}": count for name, count in self._by_judge.items()}
        return self._measured.counts() | judged | self.groups.counts()

    def _measure(self, start: int, records: Records, codes: Numbers) -> None:
        self._measured.add(records[codes > 0])
        self.new.add(records[codes > self._sequence])
        for each in self._staging.parts:
            part = slice(max(0, each.rows.start - start), max(0, each.rows.stop - start))
            there = records[part][codes[part] > 0]
            self.groups.sources[each.source].add(there)
            if each.judged:
                self._by_judge[each.source] += len(there)
        self.groups.add_models(records[codes > 0])

    def _aside(self, place: int, code: int, line: bytes) -> None:
        row = json.loads(line)
        self._rejected.add(row["source"], row["file"], row["line"], *self._why(place, code), line)

    def _why(self, place: int, code: int) -> tuple[Why, str]:
        if code in _PROBLEMS:
            return _PROBLEMS[code]
        if code == FILTERED:
            assert self._quality is not None
            return Why.FILTERED, self._quality.said_of(place)
        near = code <= NEAR_DUPLICATE
        first = int(self._codes[(NEAR_DUPLICATE if near else DUPLICATE) - code])
        why, verb = (Why.NEAR_DUPLICATE, "is alike to") if near else (Why.DUPLICATE, "equals")
        return why, (
            f"{verb} the one of ordinal {first}" if first > 0 else f"{verb} one before it, which is left out"
        )

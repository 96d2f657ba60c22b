"""What the sources give: rows go into the staging, unless no revision may have them, and what was asked beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from alignment_api.stage import IngestedSource
from alignment_worker.exclusion import Forbidden
from alignment_worker.ingestion.asked import Asked
from alignment_worker.ingestion.identity import key_of
from alignment_worker.ingestion.rejected import Rejected, Why
from alignment_worker.ingestion.sources import Given, Sources
from alignment_worker.ingestion.staging import Staging
from alignment_worker.progress import Progress
from alignment_worker.rows import Prompt, Row, RowProblemError

if TYPE_CHECKING:
    from alignment_worker.ingestion.personal import Personal

_ROWS_BETWEEN_REPORTS = 2000


@dataclass
class Reading:
    """`all` reads. `logged`: prompts of logs, for which a revision needs no judgement."""

    staging: Staging
    asked: Asked
    rejected: Rejected
    forbidden: Forbidden | None
    personal: Personal | None
    logged: int = 0

    def all(self, sources: Sources, wanted: Sequence[IngestedSource], progress: Progress) -> int:
        """In their order; how many rows there are. Raises WorkerError, OSError."""
        count = 0
        for index, source in enumerate(wanted):
            for given in sources.rows(index, source):
                if given.asked is not None:
                    self._prompt(source.name, given, given.asked)
                    continue
                count += 1
                if count % _ROWS_BETWEEN_REPORTS == 0:
                    progress.advance(0, f"reading {source.name}, {count:,} rows so far")
                self._row(source.name, given)
            self.staging.end_part(source.name)
        return count

    def _row(self, source: str, given: Given) -> None:
        try:
            found = [(each, key_of(each)) for each in given.preferences]
        except RowProblemError as problem:
            given, found = replace(given, preferences=(), problem=str(problem)), []
        if given.problem:
            self.rejected.add(source, given.file, given.line, Why.INVALID, given.problem, given.row)
        for each, key in found:
            if self.forbidden is not None and self.forbidden.has(each):
                said = "asks a gold or held-out prompt, or holds 13 words in a row of one"
                row = given.row if given.row is not None else each.columns()
                self.rejected.add(source, given.file, given.line, Why.CONTAMINATED, said, row)
                continue
            stays = self.personal.checked(each, key, source, given) if self.personal else (each, key)
            if stays is not None:
                self.staging.add(*stays, source, given.file)
                self.asked.add(stays[0].prompt, source, given.file, each.number)

    def _prompt(self, source: str, given: Given, asked: Prompt) -> None:
        """A prompt alone is no row, and so none is left out."""
        row = Row(given.line, asked)
        if self.forbidden is None or not self.forbidden.has(row):
            self.asked.add(asked, source, given.file, given.line)
            self.logged += 1

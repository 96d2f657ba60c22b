"""The table of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.chart.audit import Access
from tests.faults.trial import Verdict

_COLUMNS = ("fault", "runs", "faults", "violations", "Jobs twice", "writes after the end")


@dataclass(frozen=True)
class Row:
    """One kind of fault, over all its runs."""

    fault: str
    verdicts: Sequence[Verdict]

    def cells(self) -> tuple[str, ...]:
        runs = self.verdicts
        return (
            self.fault,
            str(len(runs)),
            str(sum(run.faults for run in runs)),
            str(sum(len(run.violations) for run in runs)),
            str(sum(run.twice for run in runs)),
            str(sum(run.after_the_end for run in runs)),
        )


def used(rows: Sequence[Row]) -> set[Access]:
    """What the operator wrote, whatever became of it."""
    return set[Access]().union(*(run.used for row in rows for run in row.verdicts))


def table(rows: Sequence[Row]) -> str:
    """In Markdown, as docs/reconciliation.md shows it."""
    cells = [_COLUMNS, tuple("---" for _ in _COLUMNS), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)

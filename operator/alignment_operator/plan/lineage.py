"""What a checkpoint's lineage has learned from, and what the datasets hold beside it.

A dataset counts each pair once, when a revision first has it; pairs that leave a dataset again take nothing away. All
pairs of a revision that an iteration worked from count as learned, those beyond `maxPairs` too.
"""

from __future__ import annotations

from collections.abc import Iterable

from alignment_api.cycle_status import DatasetNews, DatasetRevision, LearnedFrom, Promoted
from alignment_operator.observed import DatasetView

_MOST_DATASETS = 16


def known(promoted: Promoted | None) -> dict[str, int]:
    """Pairs by dataset that the incumbent's lineage has worked from; nothing for M_0."""
    return {entry.name: entry.pairs for entry in promoted.datasets} if promoted else {}


def pairs_of(revisions: Iterable[DatasetRevision]) -> dict[str, int]:
    return {revision.name: revision.pairs or 0 for revision in revisions}


def extended(start: Promoted | None, revisions: Iterable[DatasetRevision]) -> list[LearnedFrom]:
    """The lineage of a candidate that was trained from `start`; a dataset long out of use is forgotten first."""
    newer = {
        revision.name: LearnedFrom(name=revision.name, pairs=revision.pairs or 0, uri=revision.uri)
        for revision in revisions
    }
    older = [entry for entry in (start.datasets if start else []) if entry.name not in newer]
    return [*older, *newer.values()][-_MOST_DATASETS:]


def news(
    views: Iterable[DatasetView], promoted: Promoted | None, before: Iterable[DatasetNews]
) -> list[DatasetNews]:
    """A row for each dataset; one that is not ready keeps the row that it had."""
    learned, old = known(promoted), {row.name: row for row in before}
    rows = [
        DatasetNews(name=view.name, new_pairs=max(0, (view.revision.pairs or 0) - learned.get(view.name, 0)))
        if view.revision
        else old.get(view.name)
        for view in views
    ]
    return [row for row in rows if row]

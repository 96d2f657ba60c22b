"""What a checkpoint's lineage has learned from, and what the datasets hold beside it.

A dataset counts each pair once, when a revision first has it; pairs that leave a dataset again take nothing away. All
pairs of a revision that an iteration worked from count as learned, those beyond `maxPairs` too. A dataset that was
deleted and made again counts from 0, and nothing of it is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alignment_api import names
from alignment_api.cycle_status import DatasetNews, DatasetRevision, LearnedFrom, Promoted
from alignment_operator.observed import DatasetView

_MOST_DATASETS = 16


def known(promoted: Promoted | None) -> dict[str, LearnedFrom]:
    """What the incumbent's lineage has worked from, by dataset; nothing for M_0."""
    return {entry.name: entry for entry in promoted.datasets} if promoted else {}


def worked_from(revisions: Iterable[DatasetRevision]) -> dict[str, LearnedFrom]:
    """The same of an iteration."""
    return {
        revision.name: LearnedFrom(name=revision.name, pairs=revision.pairs or 0, uri=revision.uri)
        for revision in revisions
    }


def new_pairs(revision: DatasetRevision, known: Mapping[str, LearnedFrom]) -> int:
    """How many it has beside those."""
    before, pairs = known.get(revision.name), revision.pairs or 0
    if before is None or _other(before.uri, revision.uri):
        return pairs
    return max(0, pairs - before.pairs)


def _other(one: str | None, uri: str) -> bool:
    """Whether these revisions of the same name are of two datasets."""
    uids = {names.dataset_of(one) if one else None, names.dataset_of(uri)}
    return None not in uids and len(uids) == 2


def extended(start: Promoted | None, revisions: Iterable[DatasetRevision]) -> list[LearnedFrom]:
    """The lineage of a candidate that was trained from `start`; a dataset long out of use is forgotten first."""
    newer = worked_from(revisions)
    older = [entry for entry in (start.datasets if start else []) if entry.name not in newer]
    return [*older, *newer.values()][-_MOST_DATASETS:]


def news(
    views: Iterable[DatasetView], promoted: Promoted | None, before: Iterable[DatasetNews]
) -> list[DatasetNews]:
    """A row for each dataset; one that is not ready keeps the row that it had."""
    learned, old = known(promoted), {row.name: row for row in before}
    rows = [
        DatasetNews(name=view.name, new_pairs=new_pairs(view.revision, learned))
        if view.revision
        else old.get(view.name)
        for view in views
    ]
    return [row for row in rows if row]

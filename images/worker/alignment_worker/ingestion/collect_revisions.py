"""Deletes the folders of a dataset's refreshes that retention lets go: revisions, and what became none.

Whatever the operator asks for, the newest revisions of the store stay: a status that was lost or put back from a backup
does not know them. Of refreshes that found the same, one stays.
"""

from __future__ import annotations

from collections.abc import Iterator

from alignment_api import names
from alignment_api.stage import KeptRevisions
from alignment_worker.failures import InvalidConfigError
from alignment_worker.ingestion.refreshes import Refresh, refreshes
from alignment_worker.trash import delete, sweep
from alignment_worker.workspace import Workspace


def collect(workspace: Workspace, wanted: KeptRevisions) -> tuple[list[str], list[str]]:
    """Names of the folders deleted and of those kept. Raises InvalidConfigError, OSError."""
    folder = workspace.places.path(names.revisions_prefix(wanted.dataset_prefix))
    records = workspace.places.path(names.collected_prefix(wanted.dataset_prefix))
    record = workspace.config.output.rpartition("/")[2]
    last = names.refresh_of(record)
    if last is None:
        raise InvalidConfigError(
            f"output: {workspace.config.output}: must end with the name of a refresh's folder"
        )
    sweep(folder)
    sweep(records)
    there = [
        refresh
        for refresh in refreshes(folder)
        if refresh.number <= last[0] and refresh.started_at <= last[1]
    ]
    kept = {*wanted.kept, *_newest(there, wanted)}
    gone = [refresh.path for refresh in there if refresh.path.name not in kept]
    workspace.progress.begin(len(gone), "refreshes", "deleting revisions")
    for path in gone:
        delete(path)
        workspace.progress.advance()
    for earlier in records.iterdir():
        if earlier.name != record:
            delete(earlier)
    stay = [refresh.path.name for refresh in there if refresh.path.name in kept]
    return [path.name for path in gone], stay


def _newest(there: list[Refresh], wanted: KeptRevisions) -> Iterator[str]:
    """Names of the folders of the newest revisions; of equal ones, that which is kept, or else the first."""
    newest = list(dict.fromkeys(refresh.digest for refresh in reversed(there) if refresh.digest))
    for digest in newest[: wanted.newest]:
        equal = [refresh.path.name for refresh in there if refresh.digest == digest]
        if not set(equal) & set(wanted.kept):
            yield equal[0]

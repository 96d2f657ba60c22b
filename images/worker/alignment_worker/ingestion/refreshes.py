"""The folders of a dataset's refreshes in the store, and which of them a refresh goes on from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alignment_api import digests, names
from alignment_api.stage import Input, InputKind, StageConfig
from alignment_api.uris import join
from alignment_worker.store import MANIFEST, Places, SealedFolder


@dataclass(frozen=True)
class Refresh:
    """The folder of one; `digest` is that of its manifest, None if it has not made a revision."""

    path: Path
    number: int
    started_at: str
    digest: str | None


def refreshes(folder: Path) -> list[Refresh]:
    """All that have a folder there, the oldest first; what is named otherwise is none. Raises OSError."""
    if not folder.is_dir():  # no refresh ever came so far
        return []
    found = [
        Refresh(path, *named, _digest(path / MANIFEST))
        for path in folder.iterdir()
        if (named := names.refresh_of(path.name)) and path.is_dir()
    ]
    return sorted(found, key=lambda refresh: (refresh.started_at, refresh.number))


def _digest(manifest: Path) -> str | None:
    try:
        return digests.of_file(manifest)
    except FileNotFoundError:  # never made, or just being deleted with all else
        return None


def going_on(config: StageConfig, places: Places) -> StageConfig:
    """The config of a refresh, with the newest revision of the store as its base if the status has fallen behind.

    A status that was lost, or put back from a backup, gives numbers again that the store has already, and knows no base
    or an old one: ordinals from there would be given twice. A refresh that was refused is newer than the revision in
    force too, but its number is not given again. Raises InvalidConfigError, StoreConflictError, OSError.
    """
    own, (folder, _, _) = names.refresh_of(config.output), config.output.rpartition("/")
    path = places.path(folder)
    if own is None or not path.is_dir():
        return config
    base = config.inputs.get("base")
    since = names.refresh_of(base.uri) if base else None
    sealed = [each for each in refreshes(path) if each.digest and each.started_at < own[1]]
    unknown = [each for each in sealed if since is None or each.started_at > since[1]]
    if not any(each.number >= own[0] for each in unknown):
        return config
    newest = unknown[-1]
    if "sequence" not in SealedFolder.open(newest.path).counts:  # an older worker's, with no ordinals
        return config
    found = Input(uri=join(folder, newest.path.name), kind=InputKind.STAGE, digest=newest.digest)
    return config.model_copy(update={"inputs": {**config.inputs, "base": found}})

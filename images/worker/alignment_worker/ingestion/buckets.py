"""Which objects of a bucket a source's URI names, and how they come to this machine to be read.

They are fetched whole, some ahead of the one that is read, and go when they are read: memory does not grow with them.
An object that is not any more what the listing said ends the attempt.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from threading import Event, Thread

from alignment_api import digests
from alignment_api.sources import credentials_prefix
from alignment_api.stage import Digest, IngestedSource
from alignment_api.uris import InBucket
from alignment_worker.failures import InputMissingError
from alignment_worker.ingestion import finding
from alignment_worker.ingestion.files import File
from alignment_worker.ingestion.finding import LOGS, NONE_OF_THAT_NAME, NOT_THERE, SPLITS, STATE
from alignment_worker.ingestion.object_store import Object, ObjectStore

_AT_ONCE = 16  # objects that are fetched at a time
_AHEAD_BYTES = 256 << 20  # on disk besides the one that is read, unless one alone is bigger
_ENDING = re.compile(r"(\.[A-Za-z0-9]{1,12}){0,2}$")  # by which a reader tells what it is


@dataclass
class BucketFiles:
    """Objects by name, as they were listed."""

    store: ObjectStore
    where: str
    found: Sequence[tuple[str, Object]]
    is_one: bool  # which the URI names itself
    known: dict[str, Digest] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.found)

    def files(self, scratch: Path) -> Iterator[File]:
        """Raises WorkerError, OSError."""
        scratch.mkdir(parents=True, exist_ok=True)
        waiting, under_way, left = deque(enumerate(self.found)), deque[_Fetch](), Event()
        try:
            while waiting or under_way:
                while waiting and _is_room(under_way, waiting[0][1][1]):
                    number, (name, wanted) = waiting.popleft()
                    path = scratch / f"{number}{_ending(name)}"
                    fetched = _started(partial(self.store.fetch, wanted, path, left))
                    under_way.append(_Fetch(name, wanted.size, path, fetched))
                fetch = under_way.popleft()
                self.known[fetch.name] = fetch.digest.result()
                yield File(fetch.path, fetch.name)
                fetch.path.unlink()
        finally:
            left.set()

    def digest(self) -> Digest:
        """Each was fetched as it was listed, so that nothing can have changed."""
        return next(iter(self.known.values())) if self.is_one else digests.of_listing(self.known)


@dataclass(frozen=True)
class _Fetch:
    name: str
    size: int
    path: Path
    digest: Future[Digest]


def store_of(place: InBucket, name: str, sources: Sequence[IngestedSource]) -> ObjectStore:
    """For the source of that name. Raises InvalidConfigError."""
    index, source = next((number, each) for number, each in enumerate(sources) if each.name == name)
    beginning = credentials_prefix(index)
    given = {
        variable.removeprefix(beginning): value
        for variable, value in os.environ.items()
        if variable.startswith(beginning)
    }
    kind = "files" if source.files is not None else "inferenceLog"
    return ObjectStore(place, f"spec.sources[{index}].{kind}", given if source.credentials else None)


def files_of(store: ObjectStore, uri: str, place: InBucket) -> BucketFiles:
    """Raises InputMissingError, InvalidConfigError for what is no data, BucketError."""
    root, pattern = _split(place.key)
    if pattern:
        named = _matching(store, uri, root, pattern)
        if not named:
            raise InputMissingError(f"{uri}: {NONE_OF_THAT_NAME}")
        return BucketFiles(store, uri, _by_name(named), is_one=False)
    if (found := store.head(place.key) if place.key else None) is not None:
        return BucketFiles(store, uri, [(PurePosixPath(place.key).name, found)], is_one=True)
    named = _saved(store, uri, place.key, PurePosixPath(place.key).name)
    if not named:
        if not _is_folder(store, place.key):
            raise InputMissingError(f"{uri}: {NOT_THERE}")
        raise finding.is_folder(uri, PurePosixPath(place.key).name or place.bucket)
    return BucketFiles(store, uri, _by_name(named), is_one=False)


def log_files_of(store: ObjectStore, uri: str, place: InBucket) -> BucketFiles:
    """Of an inference log: those of a pattern, or all below a folder. Raises as `files_of`."""
    if "*" in place.key:
        return files_of(store, uri, place)
    if place.key and (found := store.head(place.key)) is not None:
        return BucketFiles(store, uri, [(PurePosixPath(place.key).name, found)], is_one=True)
    there, named = False, {}
    for each in store.below(place.key):
        there = True
        if each.key.endswith(LOGS):
            named[_relative(each.key, place.key)] = each
    if not there:  # a bucket has no folder that is empty
        raise InputMissingError(f"{uri}: {NOT_THERE}")
    return BucketFiles(store, uri, _by_name(named), is_one=False)


def _matching(store: ObjectStore, uri: str, root: str, pattern: str) -> dict[str, Object]:
    """By their names below the root. A pattern for names alone needs no list of all folders."""
    matches = _regex(pattern).fullmatch
    if "/" in pattern or "**" in pattern:
        objects = list(store.below(root))
        markers = (PurePosixPath(each.key) for each in objects)
        folders = {str(marker.parent) for marker in markers if marker.name in (STATE, SPLITS)}
    else:
        objects, inside = store.within(root)
        folders = set(inside)
    found = {}
    for each in objects:
        name = _relative(each.key, root)
        if matches(name) and not PurePosixPath(name).name.startswith("."):
            found[name] = each
    for folder in folders:
        name = _relative(folder, root)
        if name != "." and matches(name) and not PurePosixPath(name).name.startswith("."):
            found |= _saved(store, uri, folder, name)
    return found


def _saved(store: ObjectStore, uri: str, folder: str, name: str) -> dict[str, Object]:
    """What `datasets` saved there; empty if it did not."""
    if splits := store.read(_below(folder, SPLITS)):
        finding.require_train(uri, name, splits)
        return _saved(store, uri, _below(folder, "train"), f"{name}/train")
    if not (state := store.read(_below(folder, STATE))):
        return {}
    found = {}
    for file in finding.saved_files(uri, state):
        key = _below(folder, file)
        if (there := store.head(key)) is None:
            raise InputMissingError(f"{uri}: {file} {NOT_THERE}")
        found[f"{name}/{file}"] = there
    return found


def _is_folder(store: ObjectStore, key: str) -> bool:
    objects, folders = store.within(key)
    return bool(objects or folders)


def _by_name(named: dict[str, Object]) -> list[tuple[str, Object]]:
    """In the order of paths, as of files."""
    return sorted(named.items(), key=lambda item: PurePosixPath(item[0]).parts)


def _split(key: str) -> tuple[str, str]:
    """The folder above the first part with a `*`, and the pattern below it."""
    parts = key.split("/")
    first = next((index for index, part in enumerate(parts) if "*" in part), len(parts))
    return "/".join(parts[:first]), "/".join(parts[first:])


def _regex(pattern: str) -> re.Pattern[str]:
    """A `*` stands for any characters of a name, and `**` for any folders."""
    *folders, last = pattern.split("/")
    above = "".join("(.+/)?" if each == "**" else f"{_one(each)}/" for each in folders)
    return re.compile(above + (".+" if last == "**" else _one(last)), re.DOTALL)


def _one(name: str) -> str:
    return re.sub(r"(\\\*)+", "[^/]*", re.escape(name))


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _relative(key: str, folder: str) -> str:
    return key[len(folder) + 1 :] if folder else key


def _ending(name: str) -> str:
    found = _ENDING.search(name)
    return found[0] if found else ""


def _is_room(under_way: Sequence[_Fetch], wanted: Object) -> bool:
    ahead = sum(fetch.size for fetch in under_way)
    return not under_way or (len(under_way) < _AT_ONCE and ahead + wanted.size <= _AHEAD_BYTES)


def _started(fetch: Callable[[], Digest]) -> Future[Digest]:
    """In a thread that a process which ends does not wait for: a server may be silent for a minute."""
    future = Future[Digest]()

    def run() -> None:
        try:
            future.set_result(fetch())
        except BaseException as error:  # noqa: BLE001 - whoever waits for the result has it
            future.set_exception(error)

    Thread(target=run, name="fetch", daemon=True).start()
    return future

"""Which files a source's URI names, on this machine's file systems; `buckets` has those of a bucket."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from alignment_api import digests
from alignment_api.stage import Digest
from alignment_worker.failures import InputMissingError, InvalidConfigError
from alignment_worker.ingestion.files import File, missing

LOGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".json.gz", ".json.zst")
STATE, SPLITS = "state.json", "dataset_dict.json"  # of a folder that `datasets` saved


class Found(Protocol):
    """The files of one source as they were found at first, by name: a log grows while it is read."""

    @property
    def where(self) -> str:
        """For people: where they were looked for."""

    def __len__(self) -> int: ...

    def files(self, scratch: Path) -> Iterator[File]:
        """Each is there until the next is asked for; `scratch` may hold it. Raises WorkerError, OSError."""

    def digest(self) -> Digest:
        """Of what was read: of the one file that the URI names, or of all by name. Raises InputMissingError."""


@dataclass(frozen=True)
class LocalFiles:
    """Files that are there."""

    path: Path
    found: Sequence[File]
    known: Digest

    @classmethod
    def of(cls, path: Path, found: Sequence[File]) -> LocalFiles:
        """Raises InputMissingError."""
        return cls(path, found, _digest(path, found))

    @property
    def where(self) -> str:
        return str(self.path)

    def __len__(self) -> int:
        return len(self.found)

    def files(self, scratch: Path) -> Iterator[File]:
        del scratch
        yield from self.found

    def digest(self) -> Digest:
        """Raises InputMissingError if they are no more what they were: the next attempt reads them anew."""
        if _digest(self.path, self.found) != self.known:
            raise InputMissingError(
                f"{self.path} changed while it was read. Write a file under another name, and then rename it."
            )
        return self.known


def files_of(path: Path) -> LocalFiles:
    """By name. Raises InputMissingError, InvalidConfigError for what is no data."""
    root, pattern = _split(path)
    if not pattern:
        return LocalFiles.of(path, _files(path, path.name))
    try:
        found = sorted(item for item in root.glob(pattern) if not item.name.startswith("."))
        named = [(item, item.relative_to(root).as_posix()) for item in found]
        files = [file for item, name in named if _is_data(item) for file in _files(item, name)]
    except OSError as error:
        raise missing(root, error) from error
    if not files:
        raise InputMissingError(f"{path}: {NONE_OF_THAT_NAME}")
    return LocalFiles.of(path, files)


def log_files_of(path: Path) -> LocalFiles:
    """Of an inference log: those of a pattern, or all below a folder, which may hold none yet. Raises as `files_of`."""
    if "*" in str(path):
        return files_of(path)
    if path.is_dir():
        found = sorted(item for item in path.rglob("*") if item.name.endswith(LOGS) and item.is_file())
        named = [File(item, _printable(item.relative_to(path).as_posix())) for item in found]
        return LocalFiles.of(path, named)
    return LocalFiles.of(path, _files(path, path.name))


def saved_files(where: str, state: bytes) -> list[str]:
    """Which files of a folder that `datasets` saved hold its rows, by its state.json. Raises InvalidConfigError."""
    try:
        return [str(entry["filename"]) for entry in json.loads(state)["_data_files"]]
    except (ValueError, LookupError, TypeError) as error:
        raise _not_saved(where, error) from error


def require_train(where: str, name: str, splits: bytes) -> None:
    """Of a folder with splits, by its dataset_dict.json. Raises InvalidConfigError if `train` is none of them."""
    try:
        known = [str(split) for split in json.loads(splits)["splits"]]
        if "train" not in known:
            raise InvalidConfigError(
                f"{where}: has the splits {', '.join(known)}; name the folder of one, {name}/{known[0]}"
            )
    except (ValueError, LookupError, TypeError) as error:
        raise _not_saved(where, error) from error


def is_folder(where: str, name: str) -> InvalidConfigError:
    """For a folder that is no data."""
    return InvalidConfigError(
        f"{where}: is a folder, and not one that `datasets` saved; name the files in it: {name}/*.jsonl"
    )


NONE_OF_THAT_NAME = "no file is named so. Put one there, or correct the URI."
NOT_THERE = "is not there. Put it there, or correct the URI."


def _not_saved(where: str, error: Exception) -> InvalidConfigError:
    return InvalidConfigError(f"{where}: is not a folder that `datasets` saved: {error!r}")


def _digest(path: Path, files: Sequence[File]) -> Digest:
    try:
        if len(files) == 1 and files[0].path == path:
            return digests.of_file(path)
        return digests.of_listing({file.name: digests.of_file(file.path) for file in files})
    except OSError as error:
        raise missing(path, error) from error


def _split(path: Path) -> tuple[Path, str]:
    """The folder above the first part with a `*`, and the pattern below it."""
    first = next((index for index, part in enumerate(path.parts) if "*" in part), None)
    if first is None:
        return path, ""
    pattern = "/".join(path.parts[first:])
    return Path(*path.parts[:first]), glob.escape(pattern).replace("[*]", "*")


def _is_data(path: Path) -> bool:
    return path.is_file() or (path / STATE).is_file() or (path / SPLITS).is_file()


def _files(path: Path, name: str) -> list[File]:
    try:
        if path.is_file():
            return [File(path, _printable(name))]
        if not path.is_dir():
            raise InputMissingError(f"{path}: {NOT_THERE}")
        if (path / SPLITS).is_file():
            require_train(str(path), path.name, (path / SPLITS).read_bytes())
            return _files(path / "train", f"{name}/train")
        if (path / STATE).is_file():
            listed = saved_files(str(path), (path / STATE).read_bytes())
            return [File(path / file, _printable(f"{name}/{file}")) for file in listed]
    except OSError as error:
        raise missing(path, error) from error
    raise is_folder(str(path), path.name)


def _printable(name: str) -> str:
    """A name may hold bytes that are not UTF-8."""
    return name.encode(errors="replace").decode()

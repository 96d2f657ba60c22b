"""Files that are whole or not there, and locks between processes on one machine."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_IDENTITY = ("name", "namespace", "uid", "resourceVersion")


class BusyError(Exception):
    """Another process runs on the same state folder."""


class CorruptFileError(Exception):
    """A file of the state folder is not what we wrote."""


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file as a whole; a reader, or a crash, sees the old bytes or the new ones. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk does not name the file


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def read_json(path: Path) -> Any | None:
    """The value, or None if there is no such file. Raises CorruptFileError, OSError."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CorruptFileError(
            f"{path}: not valid JSON ({error}); mend it, or delete it to begin anew"
        ) from error


def read_object(path: Path) -> dict[str, Any] | None:
    """The API object, or None if there is no such file. Raises CorruptFileError, OSError."""
    value = read_json(path)
    if value is None:
        return None
    metadata = value.get("metadata") if isinstance(value, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(metadata.get(key), str) for key in _IDENTITY):
        raise CorruptFileError(
            f"{path}: not an object as alignctl writes it, with metadata of {', '.join(_IDENTITY)}; mend it, or delete "
            "it to begin anew"
        )
    known: dict[str, Any] = value
    return known


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """One writer at a time, for as long as one read-modify-write takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Held by the one process that runs Jobs on a state folder. Raises BusyError that names the other's pid.

    The kernel lets go of it when the process ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "run.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            pid = file.read().strip() or "unknown"
            raise BusyError(
                f"{folder}: alignctl (process {pid}) is already running here; wait until it ends, stop it with "
                f"`kill {pid}`, or use another folder with --state"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process holds `run_lock`. The lock itself is not tried: that could turn away a run that starts now."""
    lock = folder / "run.lock"
    try:
        held = lock.stat()
        opened = list(Path("/proc", lock.read_text().strip() or "0", "fd").iterdir())
    except PermissionError:  # a process of another user, but it lives
        return True
    except (OSError, ValueError):
        return False
    return any(_is_file(descriptor, held) for descriptor in opened)


def _is_file(path: Path, known: os.stat_result) -> bool:
    with suppress(OSError):
        return os.path.samestat(path.stat(), known)
    return False

"""The log: JSON Lines in a folder, in segments that appear under their name when they are complete.

A writer's open segment ends with `.part`. What a killed writer left is renamed by one that starts, or that completes a
segment of that day; its last line may be broken, which readers set aside.
"""

from __future__ import annotations

import json
import os
import queue
import random
import re
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from alignment_recorder import metrics
from alignment_recorder.exchange import Exchange, interaction
from alignment_recorder.redaction import redacted

PART = ".part"
_RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class LogOptions:
    """`sample_percent` goes by the prompt, so that answers to the same one are all in the log or none."""

    folder: Path
    sample_percent: float = 100.0
    redact: Sequence[re.Pattern[str]] = ()
    queue_bytes: int = 64 << 20
    segment_bytes: int = 64 << 20
    segment_seconds: float = 60.0


@dataclass(frozen=True)
class Feedback:
    """A person's word on the answer `id`; what is None was not said. `at`: RFC 3339."""

    id: str
    at: str
    rating: str | None
    edit: str | None


class Log:
    """Written by a thread of its own. Nothing that is offered waits or raises."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._queue: queue.SimpleQueue[tuple[Exchange | Feedback | None, int]] = queue.SimpleQueue()
        self._queued = 0
        self._lock = threading.Lock()
        self._segment: _Segment | None = None
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)

    def start(self) -> None:
        """Raises OSError if the folder can't be made or written: then, and only then."""
        self._options.folder.mkdir(parents=True, exist_ok=True)
        probe = self._options.folder / f".{_unique()}"
        probe.touch()
        probe.unlink()
        self._complete_what_was_left(self._options.folder.glob(f"*/*{PART}"))
        self._thread.start()

    def offer(self, item: Exchange | Feedback) -> bool:
        """Whether there was room in the queue."""
        size = _size(item)
        with self._lock:
            if self._queued + size > self._options.queue_bytes:
                metrics.LEFT_OUT.labels("full").inc()
                return False
            self._queued += size
        metrics.QUEUED.inc(size)
        self._queue.put((item, size))
        return True

    def close(self, seconds: float) -> None:
        """Write what is queued, for so long at most."""
        self._queue.put((None, 0))
        self._thread.join(seconds)

    def _write_all(self) -> None:
        while True:
            try:
                item, size = self._queue.get(timeout=self._until_segment_ends())
            except queue.Empty:
                self._end_segment()
                continue
            if item is None:
                self._end_segment()
                return
            try:
                self._write(item)
            except Exception:  # noqa: BLE001 - whatever shape one answer has, those that follow are logged
                metrics.LEFT_OUT.labels("unreadable").inc()
            with self._lock:
                self._queued -= size
            metrics.QUEUED.dec(size)

    def _write(self, item: Exchange | Feedback) -> None:
        """Raises UnreadableError, and what comes of a shape that the API does not have."""
        found = interaction(item) if isinstance(item, Exchange) else _feedback(item)
        if isinstance(item, Exchange) and not in_sample(found["request"], self._options.sample_percent):
            metrics.LEFT_OUT.labels("sampling").inc()
            return
        for name in ("request", "response", "edit"):
            if name in found:
                found[name] = redacted(found[name], self._options.redact)
        # A lone surrogate, which JSON can carry and UTF-8 cannot, stays escaped.
        line = json.dumps(found, separators=(",", ":")).encode() + b"\n"
        if self._written(line):
            metrics.WRITTEN.labels(found["kind"]).inc()
        else:
            metrics.LEFT_OUT.labels("log").inc()

    def _written(self, line: bytes) -> bool:
        """A folder that cannot be written is tried again after a second, not for every line."""
        if self._segment is not None and self._segment.full(self._options):
            self._end_segment()
        if self._segment is None and time.monotonic() < self._retry_at:
            return False
        try:
            self._segment = self._segment or _Segment(self._options.folder)
            self._segment.write(line)
        except OSError:
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            self._end_segment()
            return False
        return True

    def _until_segment_ends(self) -> float | None:
        if self._segment is None:
            return None
        return max(0.0, self._segment.opened + self._options.segment_seconds - time.monotonic())

    def _end_segment(self) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            with suppress(OSError):
                segment.complete()
            with suppress(OSError):
                self._complete_what_was_left(segment.folder.glob(f"*{PART}"))

    def _complete_what_was_left(self, parts: Iterable[Path]) -> None:
        """Of writers that are gone: a living one completes its segment in time."""
        for part in parts:
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > 10 * self._options.segment_seconds:
                    part.rename(part.with_suffix(""))


class _Segment:
    """DAY/TIME-HOST-RANDOM.jsonl, `.part` at its end while it is written. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        now = datetime.now(UTC)
        self._name = folder / now.strftime("%Y-%m-%d") / f"{now:%H%M%S}-{_unique()}.jsonl"
        self._name.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = self._part.open("xb", buffering=0)
        self._size = 0
        self.folder = self._name.parent
        self.opened = time.monotonic()

    @property
    def _part(self) -> Path:
        return self._name.with_name(self._name.name + PART)

    def write(self, line: bytes) -> None:
        """All of it or, should the disk be full, nothing."""
        written = 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError:
            with suppress(OSError):
                self._file.truncate(self._size)
            raise
        self._size += len(line)

    def full(self, options: LogOptions) -> bool:
        return (
            self._size >= options.segment_bytes or time.monotonic() - self.opened >= options.segment_seconds
        )

    def complete(self) -> None:
        try:
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
            if self._size:
                self._part.rename(self._name)
            else:
                self._part.unlink()


def in_sample(request: Mapping[str, Any], percent: float) -> bool:
    """The same for the same prompt, here and in every other recorder."""
    prompt = json.dumps(request.get("messages", request.get("prompt")), sort_keys=True)
    return int.from_bytes(sha256(prompt.encode()).digest()[:8]) < percent / 100 * 2**64


def _size(item: Exchange | Feedback) -> int:
    if isinstance(item, Exchange):
        return len(item.request) + len(item.response)
    return 256 + len(item.edit or "")


def _feedback(given: Feedback) -> dict[str, Any]:
    said = {"rating": given.rating, "edit": given.edit}
    return {
        "kind": "feedback",
        "id": given.id,
        "at": given.at,
        **{name: value for name, value in said.items() if value is not None},
    }


def _unique() -> str:
    return f"{socket.gethostname()}-{random.getrandbits(32):08x}"

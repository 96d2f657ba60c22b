"""The journal of an LLM judge's replies: each is written down before it counts, and none is bought twice.

A line for each reply. A retry goes on from it, and so does a second pod, which waits until the first has let go.

Of a cycle's stage it is `judgements/ROLE.jsonl` in the stage's folder, and goes when that is sealed. Of a dataset's
source it is `judgements/SOURCE.jsonl` beside its revisions, and each refresh goes on from what the others bought.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from alignment_worker.failures import StoreError
from alignment_worker.llm_question import Preferred
from alignment_worker.store import MANIFEST

REFUSED = "refused"
_LOOKS_SECONDS = 1.0


@dataclass(frozen=True)
class Reply:
    """To one request. `preferred` None: `problem` says why, REFUSED or what is wrong with `text`.

    `key` is the digest of what was asked; `text` is kept of replies that are invalid, shortened; `tokens` were read and
    written; `buyer` asked for it.
    """

    key: str
    preferred: Preferred | None
    problem: str = ""
    text: str = ""
    tokens: int = 0
    buyer: str = ""


class Journal:
    """Holds the file alone while it is open. `waiting` is called while another pod has it.

    `buyer`: who asks now; where several share a journal, each has a budget of its own.
    """

    def __init__(self, file: Path, waiting: Callable[[], None] = lambda: None, buyer: str = "") -> None:
        self._file = file
        self._waiting = waiting
        self._buyer = buyer
        self._known: dict[str, Reply] = {}
        self.requests = self.tokens = 0  # that the buyer has paid for
        self._written = self._durable = 0  # replies, by this process

    def __enter__(self) -> Self:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._file.open("a+b")
        self._lock()
        if not self._is_ours():
            self._stream.close()
            raise StoreError(
                f"{self._file}: another pod has sealed this stage meanwhile; this attempt finds its result"
            )
        self._read()
        self._durably = asyncio.Lock()  # of one event loop, as each opening is
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def get(self, key: str) -> Reply | None:
        return self._known.get(key)

    async def add(self, reply: Reply) -> None:
        """Durable when this returns. Raises OSError.

        Replies that come while one is being made durable share the next turn, and nobody's requests wait for the disk.
        """
        self._stream.write(_line(reply))
        self._stream.flush()
        self._written += 1
        mine = self._written
        async with self._durably:
            if self._durable < mine:
                there = self._written
                await asyncio.to_thread(os.fsync, self._stream.fileno())
                self._durable = there
        self._note(reply)

    def keep_only(self, keys: Collection[str]) -> None:
        """Lets go of all other replies, for good; whole and durable, or as before. Raises OSError."""
        kept = [reply for key, reply in self._known.items() if key in keys]
        if len(kept) == len(self._known):
            return
        new = self._file.with_name(f".{self._file.name}.new")
        with new.open("wb") as stream:
            stream.writelines(_line(reply) for reply in kept)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self._file)

    def _note(self, reply: Reply) -> None:
        self._known[reply.key] = reply
        if reply.buyer == self._buyer:
            self.requests += 1
            self.tokens += reply.tokens

    def _lock(self) -> None:
        while True:
            try:
                fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._waiting()
                time.sleep(_LOOKS_SECONDS)
            else:
                return

    def _is_ours(self) -> bool:
        """A stage that another pod has sealed needs no journal any more, and lets it go."""
        try:
            if (self._file.parent.parent / MANIFEST).exists():
                return False
            return self._file.stat().st_ino == os.fstat(self._stream.fileno()).st_ino
        except FileNotFoundError:
            return False

    def _read(self) -> None:
        """What stands behind the last whole line is of a pod that was killed while it wrote."""
        self._known, self.requests, self.tokens = {}, 0, 0
        self._stream.seek(0)
        whole = 0
        for line in self._stream:
            try:
                reply = Reply(**json.loads(line)) if line.endswith(b"\n") else None
            except (ValueError, TypeError):
                reply = None
            if reply is None:
                break
            self._note(reply)
            whole += len(line)
        self._stream.truncate(whole)
        self._stream.seek(0, os.SEEK_END)


def _line(reply: Reply) -> bytes:
    return json.dumps(asdict(reply)).encode() + b"\n"

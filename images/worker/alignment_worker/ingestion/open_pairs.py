"""Two answers to a prompt of which nobody said which is better, until it is known who is asked: people, or a judge.

They are kept in a database on disk. Those with flagged answers come first, and of equals the newest.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignment_worker.ingestion.identity import key_of
from alignment_worker.ingestion.inference_log import Open, as_asked
from alignment_worker.rows import Pair, Prompt, RowProblemError

Flags = Callable[[Sequence[tuple[Prompt, str]]], list[bool]]
_ROWS_AT_ONCE = 256
_TABLE = """
PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
CREATE TABLE open (
    log TEXT, at TEXT, place INTEGER, file TEXT, line INTEGER, prompt TEXT, first TEXT, second TEXT, flagged INTEGER
);
BEGIN;
"""


@dataclass(frozen=True)
class Found:
    """An open pair, and where the later of its answers stands."""

    open: Open
    file: str
    line: int

    def pair(self, *, turned: bool = False) -> Pair:
        """As a judge makes it that prefers the first answer, or the second."""
        prompt, (first, second) = self.open.prompt, self.open.answers
        better, worse = (second, first) if turned else (first, second)
        chosen, rejected = as_asked(prompt, better), as_asked(prompt, worse)
        return Pair(self.line, prompt, chosen, rejected, by_judge=True)


class OpenPairs:
    """Of all logs. Closed with `with`."""

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.executescript(_TABLE)

    def __enter__(self) -> OpenPairs:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, log: str, found: Found) -> bool:
        """False for answers that differ in white space alone: there is nothing to ask."""
        opened = found.open
        try:
            key_of(found.pair())
        except RowProblemError:
            return False
        texts = (json.dumps(text) for text in (opened.prompt, *opened.answers))
        row = (log, opened.at, opened.place, found.file, found.line, *texts)
        self._database.execute("INSERT INTO open VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)", row)
        return True

    def flag(self, log: str, flags: Flags, *, drop: bool) -> int:
        """Asks `flags` about all answers; how many pairs have a flagged one. `drop`: not kept if both are."""
        last, count = 0, 0
        while rows := self._database.execute(
            "SELECT rowid, prompt, first, second FROM open WHERE log = ? AND rowid > ? ORDER BY rowid LIMIT ?",
            (log, last, _ROWS_AT_ONCE),
        ).fetchall():
            last = rows[-1][0]
            answered = [(json.loads(row[1]), json.loads(text)) for row in rows for text in row[2:]]
            said = flags(answered)
            flagged = [sum(said[place : place + 2]) for place in range(0, len(said), 2)]
            count += sum(map(bool, flagged))
            updates = [(number, row[0]) for number, row in zip(flagged, rows, strict=True)]
            self._database.executemany("UPDATE open SET flagged = ? WHERE rowid = ?", updates)
        if drop:
            self._database.execute("DELETE FROM open WHERE log = ? AND flagged = 2", (log,))
            self._database.execute("UPDATE open SET flagged = 0 WHERE log = ?", (log,))
        return count

    def all(self, log: str | None = None) -> Iterator[Found]:
        """Of one log, or of those that were added so far; those first about which it helps most to ask."""
        rows = self._database.execute(
            "SELECT at, place, file, line, prompt, first, second FROM open WHERE ? IN (log, '') "
            "ORDER BY flagged > 0 DESC, at DESC, place DESC, first, second",
            (log or "",),
        )
        for at, place, file, line, prompt, first, second in rows:
            answers = (json.loads(first), json.loads(second))
            yield Found(Open(place, at, json.loads(prompt), answers), file, line)

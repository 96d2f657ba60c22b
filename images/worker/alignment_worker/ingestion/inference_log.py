"""Judgements from an inference log: what people said of answers, and which of several answers they went on with.

1. An edited answer is preferred to the one that was served.
2. Of answers to one prompt, those that are called good are preferred to those that are called bad.
3. Of answers that one person got to one prompt within an hour, the one that the conversation went on with is preferred
   to those that it did not go on with: that is what asking again means.
4. What is called good or bad is an unpaired row, too.

Two answers that nothing is said of are an open pair, for people or a judge. Rows are kept in a database on disk, so
that memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from alignment_worker.ingestion.log_formats import Answered, Record, Said
from alignment_worker.rows import Message, Pair, Preference, Prompt, Unpaired

REGENERATED_WITHIN = timedelta(hours=1)
MOST_ANSWERS = 8  # of one prompt, the latest: pairs grow with their square
_TABLES = """
CREATE TABLE answered (id TEXT PRIMARY KEY, at TEXT, who TEXT, asked BLOB, prompt TEXT, answer TEXT, place INTEGER,
    digest TEXT);
CREATE TABLE said (id TEXT, at TEXT, good INTEGER, edit TEXT, place INTEGER);
CREATE TABLE went_on (who TEXT, asked BLOB, answer BLOB, at TEXT);
"""
_INDEXES = """
CREATE INDEX by_prompt ON answered (asked, at, id);
CREATE INDEX by_answer ON said (id, at, place);
CREATE INDEX by_turn ON went_on (asked, answer, who);
"""


@dataclass(frozen=True)
class Prompted:
    """What was asked. `place` is the first one where the log has an answer to it."""

    place: int
    prompt: Prompt


@dataclass(frozen=True)
class Judged:
    """`place` is where the log's row stands that it rests on."""

    place: int
    preference: Preference


@dataclass(frozen=True)
class Open:
    """Two answers to one prompt of which nobody said which is better; `at` and `place` are those of the later."""

    place: int
    at: str
    prompt: Prompt
    answers: tuple[str, str]


@dataclass
class _Served:
    """An answer with what is known of it."""

    answered: Answered
    place: int
    good: bool | None = None
    edit: str | None = None
    went_on: bool = False


class InferenceLog:
    """Records in any order; a later one of the same answer takes the earlier one's place. Closed with `with`."""

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)
        # What is lost with the machine is read again.
        self._database.executescript(f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; {_TABLES} BEGIN;")

    def __enter__(self) -> InferenceLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add(self, record: Record, place: int) -> None:
        if isinstance(record, Said):
            row = (record.id, record.at, record.good, _sqlite(record.edit), place)
            self._database.execute("INSERT INTO said VALUES (?, ?, ?, ?, ?)", row)
            return
        self._database.execute(
            "INSERT OR REPLACE INTO answered VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.id,
                record.at,
                record.who,
                _key(record.prompt),
                json.dumps(record.prompt),
                _sqlite(record.answer),
                place,
                record.digest,
            ),
        )
        for asked, answer in _earlier_turns(record.prompt):
            turn = (record.who, asked, _key(answer), record.at)
            self._database.execute("INSERT INTO went_on VALUES (?, ?, ?, ?)", turn)

    def answers(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM answered").fetchone()[0])

    def prompts(self) -> Iterator[Prompted]:
        """Each once, whoever judged the answers, in their order."""
        rows = "SELECT min(place), prompt FROM answered GROUP BY asked ORDER BY asked"
        for place, prompt in self._database.execute(rows):
            yield Prompted(place, json.loads(prompt))

    def judged(self, *, feedback: bool) -> Iterator[Judged | Open]:
        """In the order of prompts. Without `feedback`, only what people went on with counts."""
        self._database.executescript(_INDEXES)
        rows = self._database.execute(
            "SELECT id, at, who, asked, prompt, answer, place, digest FROM answered ORDER BY asked, at, id"
        )
        for _, group in groupby(rows, key=lambda row: row[3]):
            latest = deque[_Served](maxlen=MOST_ANSWERS)
            for name, at, who, _, prompt, answer, place, digest in group:
                served = _Served(Answered(name, at, who, json.loads(prompt), _text(answer), digest), place)
                if feedback:
                    self._heed(served)
                yield from _judged(served)
                latest.append(served)
            for served in latest:
                served.went_on = self._went_on(served.answered)
            yield from _all_compared(tuple(latest))

    def _heed(self, served: _Served) -> None:
        """What was said of it; the last word counts."""
        said = "SELECT good, edit FROM said WHERE id = ? ORDER BY at, place"
        for good, edit in self._database.execute(said, (served.answered.id,)):
            served.good = bool(good) if good is not None else served.good
            served.edit = _text(edit) if edit is not None else served.edit

    def _went_on(self, answered: Answered) -> bool:
        turn = "SELECT at FROM went_on WHERE asked = ? AND answer = ? AND who = ?"
        known = (_key(answered.prompt), _key(answered.answer), answered.who)
        return any(_is_soon(answered.at, at) for (at,) in self._database.execute(turn, known))


def _judged(one: _Served) -> Iterator[Judged]:
    if one.edit is not None and one.edit != one.answered.answer:
        yield _pair(one, one.edit, one.answered.answer, None, one.answered.digest)
    if one.good is not None:
        answered = one.answered
        completion = as_asked(answered.prompt, answered.answer)
        yield Judged(one.place, Unpaired(one.place, answered.prompt, completion, one.good, answered.digest))


def _all_compared(served: Sequence[_Served]) -> Iterator[Judged | Open]:
    for index, one in enumerate(served):
        for other in served[index + 1 :]:
            if one.answered.answer != other.answered.answer:
                yield from _compared(one, other)


def _compared(one: _Served, other: _Served) -> Iterator[Judged | Open]:
    if one.good is not None and other.good is not None and one.good != other.good:
        better, worse = (one, other) if one.good else (other, one)
        yield _compared_pair(better, worse)
    elif one.good is None and other.good is None and one.edit is None and other.edit is None:
        again = one.answered.who == other.answered.who and _is_soon(one.answered.at, other.answered.at)
        if again and one.went_on != other.went_on:
            better, worse = (one, other) if one.went_on else (other, one)
            yield _compared_pair(better, worse)
        else:
            later = max(one, other, key=lambda each: (each.answered.at, each.place))
            answers = (one.answered.answer, other.answered.answer)
            yield Open(later.place, later.answered.at, one.answered.prompt, answers)


def _compared_pair(better: _Served, worse: _Served) -> Judged:
    one, other = better.answered, worse.answered
    return _pair(better, one.answer, other.answer, one.digest, other.digest)


def _pair(
    better: _Served, chosen: str, rejected: str, chosen_by: str | None, rejected_by: str | None
) -> Judged:
    """An answer that a person wrote has no model."""
    prompt = better.answered.prompt
    pair = Pair(
        better.place,
        prompt,
        as_asked(prompt, chosen),
        as_asked(prompt, rejected),
        chosen_model=chosen_by,
        rejected_model=rejected_by,
    )
    return Judged(better.place, pair)


def as_asked(prompt: Prompt, answer: str) -> Prompt:
    return answer if isinstance(prompt, str) else [{"role": "assistant", "content": answer}]


def _earlier_turns(prompt: Prompt) -> Iterator[tuple[bytes, str]]:
    """Keys of what a conversation was asked before, and the answers that it went on with."""
    if isinstance(prompt, str):
        return
    for key, message in zip(_keys(prompt), prompt, strict=True):
        if key is not None and message["role"] == "assistant":
            yield key, message["content"]


def _is_soon(one: str, other: str) -> bool:
    """Without times nobody knows."""
    if not one or not other:
        return False
    return abs(datetime.fromisoformat(one) - datetime.fromisoformat(other)) <= REGENERATED_WITHIN


def _key(value: Prompt) -> bytes:
    return _short(hashlib.sha256(_spelled(value)))


def _keys(messages: list[Message]) -> Iterator[bytes | None]:
    """Of each message the key of those before it, None of the first: in one go, however many there are."""
    digest = hashlib.sha256(b"[")
    for index, message in enumerate(messages):
        if index:
            before = digest.copy()
            before.update(b"]")
            yield _short(before)
            digest.update(b", ")
        else:
            yield None
        digest.update(_spelled(message))


def _spelled(value: Prompt | Message) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _short(digest: Any) -> bytes:
    return bytes(digest.digest()[:16])


def _sqlite(text: str | None) -> str | None:
    """Half a surrogate pair, which JSON can carry, is no UTF-8."""
    return None if text is None else json.dumps(text)


def _text(stored: str) -> str:
    return str(json.loads(stored))

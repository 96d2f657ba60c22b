"""Which rows stay: duplicates, contradictions, the most of a source; and the ordinal of each that does.

Rows are looked at in parts, by key, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignment_api.curation import Conflicts
from alignment_worker.ingestion.ordinals import ENTRY, Keys, Known, Numbers, asked_of
from alignment_worker.ingestion.parts import Parts
from alignment_worker.ingestion.staging import Part, Staging

# A duplicate of row n is DUPLICATE − n, a near-duplicate NEAR_DUPLICATE − n; an ordinal is above 0.
NEW, CONFLICTING, CAPPED, FILTERED, DUPLICATE, NEAR_DUPLICATE = 0, -1, -2, -3, -4, -(1 << 62)
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Decided:
    """`codes` has for each row its ordinal, or why it is left out."""

    codes: Numbers
    sequence: int  # the highest ordinal so far


def decide(
    staging: Staging,
    known: Known,
    sequence: int,
    conflicts: Conflicts,
    most: int | None,
    folder: Path,
    ordinals: Path,
    marks: Sequence[Callable[[Numbers], None]] = (),
) -> Decided:
    """Writes the ordinals of all, before and now; `sequence` is the highest before.

    Each of `marks` gets the codes as far as keys and those before it tell, and marks in them what is left out. Raises
    OSError, and as they do.
    """
    codes = _zeros(folder / "codes", staging.count)
    keys_of = ((start, records["key"]) for start, records in staging.records())
    parts = Parts(keys_of, folder / "keys", staging.count + len(known))
    for bucket, keys, places in parts.read():
        codes[places] = _codes(keys, places, conflicts, known.within(bucket, parts.buckets))
    for mark in marks:
        mark(codes)
    if most is not None:
        _cap(codes, staging.parts, most)
    new = _number(codes, sequence)
    with ordinals.open("wb") as file:
        for bucket, keys, places in parts.read():
            file.write(_carried(known.within(bucket, parts.buckets), keys, codes[places], sequence).tobytes())
    return Decided(codes, sequence + new)


def _zeros(file: Path, count: int) -> Any:
    """On disk, which holds no array of nothing."""
    return np.memmap(file, np.int64, "w+", shape=(count,)) if count else np.zeros(0, np.int64)


def _codes(keys: Keys, places: Numbers, conflicts: Conflicts, entries: Keys) -> Numbers:
    """Of the rows of one bucket, in the order of reading."""
    codes = np.zeros(len(keys), np.int64)
    if not len(keys):
        return codes
    order = np.argsort(keys, kind="stable")
    ordered, rows = keys[order], places[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])  # of each judgement
    counts = np.diff(np.r_[starts, len(ordered)])
    last = rows[starts + counts - 1]
    loses = _losers(ordered[starts], counts, last, conflicts)
    of_judgement = np.repeat(np.arange(len(starts)), counts)
    found = DUPLICATE - rows[starts][of_judgement]
    found[starts] = Known.of(ordered[starts], entries)
    found[loses[of_judgement]] = CONFLICTING
    codes[order] = found
    return codes


def _losers(judgements: Keys, counts: Numbers, last: Numbers, conflicts: Conflicts) -> Numbers:
    """Which of the judgements contradict another and do not stay. Opposite ones are neighbours."""
    loses = np.zeros(len(judgements), bool)
    pairs = asked_of(judgements)
    one = np.flatnonzero(pairs[1:] == pairs[:-1])
    other = one + 1
    if conflicts == "Drop":
        loses[one] = loses[other] = True
    else:
        weight = last if conflicts == "KeepLatest" else counts
        loses[one] = weight[one] <= weight[other]
        loses[other] = weight[other] <= weight[one]
    return loses


def _cap(codes: Numbers, parts: Sequence[Part], most: int) -> None:
    """Of each source those that are read last stay, and those that its judge made only where people's leave room."""
    room: dict[str, int] = {}
    for each in parts:
        left = room.get(each.source, most)
        for behind in range(each.rows.stop, each.rows.start, -_ROWS_AT_ONCE):
            part = codes[max(each.rows.start, behind - _ROWS_AT_ONCE) : behind]
            kept = np.flatnonzero(part >= NEW)
            part[kept[: max(0, len(kept) - left)]] = CAPPED
            left = max(0, left - len(kept))
        room[each.source] = left


def _number(codes: Numbers, sequence: int) -> int:
    """Gives the new ones their ordinals, in the order of reading; how many."""
    new = 0
    for start in range(0, len(codes), _ROWS_AT_ONCE):
        part = codes[start : start + _ROWS_AT_ONCE]
        there = np.flatnonzero(part == NEW)
        part[there] = np.arange(sequence + new + 1, sequence + new + 1 + len(there))
        new += len(there)
    return new


def _carried(entries: Keys, keys: Keys, codes: Numbers, sequence: int) -> Keys:
    """The entries of a bucket, with the new ones."""
    new = codes > sequence
    added = np.empty(int(new.sum()), ENTRY)
    added["key"], added["ordinal"] = keys[new], codes[new]
    both = np.concatenate([entries, added])
    return both[np.argsort(both["key"], kind="stable")]

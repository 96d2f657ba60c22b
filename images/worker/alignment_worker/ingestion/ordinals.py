"""The ordinal of every pair and unpaired row that a dataset has ever had: a file of keys in their order.

Each revision carries it on, so that one that was left out and comes back has the ordinal that it had.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alignment_worker.ingestion.identity import KEY_BYTES

ORDINALS = "ordinals"  # of `ingest`, read by the next
ENTRY = np.dtype([("key", f"S{KEY_BYTES}"), ("ordinal", "<u8")])
Keys = np.ndarray[Any, np.dtype[Any]]
Numbers = np.ndarray[Any, np.dtype[Any]]
MAX_BUCKETS = 256


class Known:
    """The ordinals of the revision in force; none without one."""

    def __init__(self, file: Path | None) -> None:
        self._entries: Any = np.empty(0, ENTRY)
        if file is not None and file.stat().st_size > 0:
            self._entries = np.memmap(file, ENTRY, "r")

    def __len__(self) -> int:
        return len(self._entries)

    def within(self, bucket: int, buckets: int) -> Keys:
        """The entries whose key is in that part of all keys, in order."""
        if buckets == 1:
            return np.array(self._entries)
        first, behind = (int(np.searchsorted(self._entries["key"], edge)) for edge in _edges(bucket, buckets))
        return np.array(self._entries[first : behind if bucket + 1 < buckets else len(self._entries)])

    @staticmethod
    def of(keys: Keys, entries: Keys) -> Numbers:
        """The ordinal of each key, 0 if it has none."""
        if not len(entries):
            return np.zeros(len(keys), np.int64)
        places = np.minimum(np.searchsorted(entries["key"], keys), len(entries) - 1)
        return np.where(entries["key"][places] == keys, entries["ordinal"][places].astype(np.int64), 0)


def buckets_of(keys: Keys, buckets: int) -> Numbers:
    """In which part of all keys each is; by its first byte."""
    return keys.view(np.uint8).reshape(len(keys), KEY_BYTES)[:, 0].astype(np.int64) * buckets // 256


def asked_of(keys: Keys) -> Keys:
    """The same for two judgements that contradict each other: without the last bit."""
    octets = keys.view(np.uint8).reshape(len(keys), KEY_BYTES).copy()
    octets[:, -1] &= 0xFE
    return octets.view(f"S{KEY_BYTES}").reshape(len(keys))


def _edges(bucket: int, buckets: int) -> Iterator[bytes]:
    for each in (bucket, bucket + 1):
        yield bytes([min(255, each * 256 // buckets)]) + bytes(KEY_BYTES - 1)

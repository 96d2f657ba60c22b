"""Many keys, looked at in parts, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from alignment_worker.ingestion.identity import KEY_BYTES
from alignment_worker.ingestion.ordinals import MAX_BUCKETS, Keys, Numbers, buckets_of

_ROWS_IN_A_BUCKET = 1 << 17
_KEYED = np.dtype([("key", f"S{KEY_BYTES}"), ("row", "<i8")])


class Parts:
    """Keys and rows, a bucket at a time; within one in the order of reading."""

    def __init__(self, keys: Iterable[tuple[int, Keys]], folder: Path, count: int) -> None:
        """`keys`: some at a time, each time with the row of the first. `count`: how many there may be at most.

        Makes the folder. Raises OSError.
        """
        folder.mkdir()
        wanted = max(1, -(-count // _ROWS_IN_A_BUCKET))
        self.buckets = min(MAX_BUCKETS, 1 << (wanted - 1).bit_length())
        self._paths = [folder / str(bucket) for bucket in range(self.buckets)]
        files = [path.open("wb") for path in self._paths]
        try:
            for start, some in keys:
                keyed = np.empty(len(some), _KEYED)
                keyed["key"], keyed["row"] = some, np.arange(start, start + len(some))
                bucket = buckets_of(np.ascontiguousarray(keyed["key"]), self.buckets)
                for each in np.unique(bucket):
                    files[each].write(keyed[bucket == each].tobytes())
        finally:
            for file in files:
                file.close()

    def read(self) -> Iterator[tuple[int, Keys, Numbers]]:
        """Raises OSError."""
        for bucket, path in enumerate(self._paths):
            keyed = np.fromfile(path, _KEYED)
            yield bucket, np.ascontiguousarray(keyed["key"]), np.ascontiguousarray(keyed["row"])

"""What was read, on disk until it is known what stays: of each row its text, its key and its lengths.

Memory does not grow with the number of rows.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from alignment_worker import rows
from alignment_worker.ingestion.identity import KEY_BYTES
from alignment_worker.ingestion.ordinals import Numbers
from alignment_worker.rows import Pair, Preference

RECORD = np.dtype(
    [
        ("key", f"S{KEY_BYTES}"),
        ("prompt", "<u4"),  # characters
        ("first", "<u4"),  # of the chosen answer, or the only one
        ("second", "<u4"),  # of the rejected one
        ("paired", "u1"),
        ("by_judge", "u1"),  # no person's label
        ("one", "<u4"),  # the number of the model that gave the first answer, from 1; 0: not known
        ("other", "<u4"),  # the same of the second
    ]
)
_PACKED = struct.Struct(f"<{KEY_BYTES}sIIIBBII")
_ROWS_AT_ONCE = 1 << 14
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
Records = np.ndarray[Any, np.dtype[Any]]


def as_line(value: Any) -> bytes:
    """One line of JSON Lines."""
    return _ENCODER.encode(value).encode() + b"\n"


@dataclass(frozen=True)
class Part:
    """Rows that follow each other: those of a source, or those that its judge makes, after all sources."""

    source: str
    judged: bool
    rows: range


class Staging:
    """Takes rows in, then gives them back in the same order, in parts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.count = 0
        self.parts: list[Part] = []
        self.models: dict[str, int] = {}  # by digest their numbers
        self._lines_path, self.records_path = folder / "rows.jsonl", folder / "records"
        self._lines, self._records = self._lines_path.open("wb"), self.records_path.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._records.close()

    def add(self, preference: Preference, key: bytes, source: str, file: str) -> None:
        """Raises OSError."""
        columns = preference.columns()
        self._lines.write(as_line({**columns, "source": source, "file": file, "line": preference.number}))
        if isinstance(preference, Pair):
            first, second, paired = _length(preference.chosen), _length(preference.rejected), 1
            models = self._model(preference.chosen_model), self._model(preference.rejected_model)
            by_judge = preference.by_judge
        else:
            first, second, paired, by_judge = _length(preference.completion), 0, 0, False
            models = self._model(preference.model), 0
        lengths = _length(preference.prompt), first, second
        self._records.write(_PACKED.pack(key, *lengths, paired, by_judge, *models))
        self.count += 1

    def end_part(self, source: str, *, judged: bool = False) -> None:
        """What was added since the last part is this one."""
        start = self.parts[-1].rows.stop if self.parts else 0
        self.parts.append(Part(source, judged, range(start, self.count)))

    def _model(self, digest: str | None) -> int:
        return 0 if digest is None else self.models.setdefault(digest, len(self.models) + 1)

    def chunks(self) -> Iterator[tuple[int, Records, Iterator[bytes]]]:
        """Of some rows: the number of the first, from 0, their records, and their lines, which must all be read."""
        self._lines.flush()
        with self._lines_path.open("rb", buffering=1 << 20) as lines:
            for start, records in self.records():
                yield start, records, (lines.readline() for _ in range(len(records)))

    def loaded(self, chosen: Numbers, at_once: int) -> Iterator[tuple[Numbers, list[dict[str, Any]]]]:
        """Some of the rows at a time, with their numbers. `chosen`: of each row whether it is wanted."""
        places: list[int] = []
        found: list[dict[str, Any]] = []
        for start, _, lines in self.chunks():
            for place, line in enumerate(lines, start):
                if chosen[place]:
                    places.append(place)
                    found.append(json.loads(line))
                if len(places) == at_once:
                    yield np.array(places), found
                    places, found = [], []
        if places:
            yield np.array(places), found

    def records(self) -> Iterator[tuple[int, Records]]:
        """The same without the lines."""
        self._records.flush()
        with self.records_path.open("rb") as file:
            for start in range(0, self.count, _ROWS_AT_ONCE):
                count = min(_ROWS_AT_ONCE, self.count - start)
                yield start, np.frombuffer(file.read(count * RECORD.itemsize), RECORD)


def _length(text: rows.Prompt) -> int:
    return len(rows.said(text))

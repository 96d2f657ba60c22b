"""Rows that are left out, each with its place and the reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from alignment_worker.ingestion.staging import as_line

MAX_CHARACTERS = 2000  # of a row that is kept aside


class Why(StrEnum):
    INVALID = "Invalid"
    CONTAMINATED = "Contaminated"
    DUPLICATE = "Duplicate"
    NEAR_DUPLICATE = "NearDuplicate"
    CONFLICTING = "Conflicting"
    FILTERED = "Filtered"
    CAPPED = "Capped"
    PII = "PII"


class Rejected:
    """rejected.jsonl: `source`, `file`, `line`, `reason`, `problem`, and the beginning of the `row` as it was."""

    def __init__(self, path: Path, *, redact: bool = False) -> None:
        """With `redact`, without the personal data of rows."""
        self._redact = redact
        self._file = path.open("wb")
        self._counts: Counter[Why] = Counter()
        self.first = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(
        self, source: str, file: str, line: int, why: Why, problem: str, row: bytes | dict[str, Any] | None
    ) -> None:
        """Raises OSError."""
        if self._redact:
            from alignment_worker.ingestion import personal_data  # noqa: PLC0415 - slow to load, and often not needed

            row = personal_data.redacted_row(row)
            # What a problem quotes is cut at a length: half an address is none by its form.
            problem = personal_data.redacted_source(re.sub(r".{0,39}\S…", "…", problem))
        self._counts[why] += 1
        place = {"source": source, "file": file, "line": line, "reason": why.value, "problem": problem}
        self._file.write(as_line({**place, "row": _shortened(row)}))
        self.first = self.first or f"{source}: {file}: row {line}: {problem}"

    def counts(self) -> dict[str, int]:
        return {
            "pii" if why is Why.PII else why.value[0].lower() + why.value[1:]: self._counts[why]
            for why in Why
        }


def _shortened(row: bytes | dict[str, Any] | None) -> str:
    if isinstance(row, dict):
        row = json.dumps(row, ensure_ascii=False, default=str).encode(errors="replace")
    text = (row or b"")[: 4 * MAX_CHARACTERS].decode(errors="replace").strip()
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"

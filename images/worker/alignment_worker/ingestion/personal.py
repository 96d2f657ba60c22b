"""What becomes of rows that hold personal data: left out, redacted, or listed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from alignment_api.curation import OnPersonalData
from alignment_worker.ingestion import personal_data
from alignment_worker.ingestion.identity import key_of
from alignment_worker.ingestion.inference_log import Open
from alignment_worker.ingestion.rejected import Rejected, Why
from alignment_worker.ingestion.sources import Given
from alignment_worker.ingestion.staging import as_line
from alignment_worker.rows import Pair, Preference, Prompt, RowProblemError

PERSONAL = "personal-data.jsonl"


class Personal:
    """With Flag, makes personal-data.jsonl: `source`, `file`, `line` and `kinds` of each row that holds some."""

    def __init__(self, action: OnPersonalData, rejected: Rejected, path: Path) -> None:
        self._action, self._rejected, self._path = action, rejected, path
        self._kinds: Counter[str] = Counter()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        if self._action == "Flag":
            self._file = self._path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def checked(
        self, preference: Preference, key: bytes, source: str, given: Given
    ) -> tuple[Preference, bytes] | None:
        """What stays of it, and its key; None: nothing. Raises OSError."""
        cleaned, kinds = personal_data.without(preference)
        if not kinds:
            return preference, key
        self._kinds.update(kinds)
        told = ", ".join(kind for kind in personal_data.KINDS if kind in kinds)
        if self._file:
            place = {"source": source, "file": given.file, "line": preference.number}
            self._file.write(as_line({**place, "kinds": told.split(", ")}))
            return preference, key
        problem = f"holds personal data: {told}"
        if self._action == "Redact":
            try:
                return cleaned, key_of(cleaned)
            except RowProblemError:
                problem = f"the answers differ in personal data alone: {told}"
        row = given.row if given.row is not None else preference.columns()
        self._rejected.add(source, given.file, given.line, Why.PII, problem, row)
        return None

    def opened(self, pair: Open) -> Open | None:
        """What people or a judge may be shown of it; None: nothing."""
        first, second = pair.answers
        cleaned, kinds = personal_data.without(Pair(0, pair.prompt, first, second))
        if not kinds or self._action == "Flag":
            return pair
        assert isinstance(cleaned, Pair)
        answers = str(cleaned.chosen), str(cleaned.rejected)
        return replace(pair, prompt=cleaned.prompt, answers=answers) if self._action == "Redact" else None

    def prompt(self, prompt: Prompt) -> Prompt | None:
        """What of it may be sampled on; None: nothing."""
        cleaned, kinds = personal_data.without(Pair(0, prompt, "", ""))
        if not kinds or self._action == "Flag":
            return prompt
        return cleaned.prompt if self._action == "Redact" else None

    def counts(self) -> dict[str, int]:
        """Rows by kind."""
        return {f"pii/{kind}": self._kinds[kind] for kind in personal_data.KINDS}

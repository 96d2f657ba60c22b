"""How far a stage is, for whoever watches. No decision depends on it."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal

_INTERVAL_SECONDS = 0.3


class Progress:
    """Is told and asked; with a path also a JSON file, replaced atomically a few times a second at most.

    The file holds `{"done", "total", "unit", "seconds_left", "detail"}`. `counts` is work of the whole stage: tokens,
    judgements, steps.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self._path = path
        self._done = self._done_before = self._total = 0
        self._unit = self._detail = ""
        self._started = self._written = 0.0

    def begin(self, total: int, unit: str, detail: str = "", *, done: int = 0) -> None:
        """A part of the stage starts: `total` things to do, named by `unit` in the plural; `done` of them before."""
        self._done, self._total, self._unit, self._detail = done, total, unit, detail
        self._done_before = done
        self._started = time.monotonic()
        self._write()

    def advance(self, count: int = 1, detail: str | None = None) -> None:
        self.reach(self._done + count, detail)

    def reach(self, done: int, detail: str | None = None) -> None:
        self._done = done
        self._detail = self._detail if detail is None else detail
        if time.monotonic() - self._written >= _INTERVAL_SECONDS or done >= self._total:
            self._write()

    def count(self, what: Literal["tokens", "judgements", "steps"], number: int = 1) -> None:
        """So much was done since it was called last."""
        self.counts[what] += number

    def told(self) -> dict[str, Any]:
        """What the file holds."""
        return {
            "done": self._done,
            "total": self._total,
            "unit": self._unit,
            "seconds_left": self._seconds_left(),
            "detail": self._detail,
        }

    def _seconds_left(self) -> float | None:
        done_now = self._done - self._done_before
        if not done_now:
            return None
        elapsed = time.monotonic() - self._started
        return round(elapsed / done_now * max(0, self._total - self._done), 1)

    def _write(self) -> None:
        self._written = time.monotonic()
        if self._path is None:
            return
        text = json.dumps(self.told())
        temporary = self._path.with_name(self._path.name + ".tmp")
        try:
            temporary.write_text(text)
            temporary.replace(self._path)
        except OSError:
            self._path = None  # nobody watches: the stage goes on

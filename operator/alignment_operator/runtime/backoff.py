"""Waits that double after each failure."""

from __future__ import annotations


class Backoff:
    """Seconds to wait after the first failure, the second, …; `reset` after a success."""

    def __init__(self, first_seconds: float, longest_seconds: float) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self._failures = 0

    def next(self) -> float:
        seconds = self._first * 2.0 ** min(self._failures, 30)
        self._failures += 1
        return min(seconds, self._longest)

    def reset(self) -> None:
        self._failures = 0

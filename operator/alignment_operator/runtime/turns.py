"""How many iterations may run at once, and whose turn is next."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Turns(Generic[Key]):
    """Places for so many iterations; None: for all. Who was told to wait goes first when a place is free.

    A place is kept for whom it is offered to, until `settle` or `fail` says what became of it.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._running: set[Key] = set()
        self._offered: set[Key] = set()
        self._waiting: dict[Key, None] = {}  # in the order in which they came

    def offer(self, key: Key) -> bool:
        """Whether its iteration may start now, or runs already. A place is kept for it if it may."""
        if self._most is None or key in self._running:
            return True
        ahead = list(self._waiting).index(key) if key in self._waiting else len(self._waiting)
        if len(self._running) + len(self._offered) + ahead >= self._most:
            return False
        self._offered.add(key)
        return True

    def settle(self, key: Key, *, runs: bool, waits: bool) -> Sequence[Key]:
        """Whether its iteration runs, or waits for its turn. Returns those whose turn it is now."""
        if runs:
            self._running.add(key)
        else:
            self._running.discard(key)
        if waits:
            self._waiting.setdefault(key)
        else:
            self._waiting.pop(key, None)
        return self._release(key)

    def fail(self, key: Key) -> Sequence[Key]:
        """Nothing is known of what became of the offer: it asks again, after the others. Returns whose turn it is."""
        self._waiting.pop(key, None)
        return self._release(key)

    def _release(self, key: Key) -> Sequence[Key]:
        self._offered.discard(key)
        if self._most is None:
            return ()
        free = self._most - len(self._running) - len(self._offered)
        return tuple(islice(self._waiting, max(0, free)))

"""Keys that wait for a pass: each at most once, never worked on twice at the same time."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Hashable
from typing import Generic, TypeVar

from alignment_operator.runtime.backoff import Backoff

Key = TypeVar("Key", bound=Hashable)

# A clock that jumps, or a wake that was reckoned wrong, costs an hour at most.
_LONGEST_DELAY_SECONDS = 3600.0


class WorkQueue(Generic[Key]):
    """As client-go's: a key that is added while it is worked on is worked on once more afterwards.

    A key that is urgent is taken before any that is not. After an error a key waits, ever longer; being added cuts
    the wait short, for whatever changed may be the remedy.
    """

    def __init__(self, first_backoff_seconds: float = 0.2, longest_backoff_seconds: float = 300.0) -> None:
        self._ready: asyncio.PriorityQueue[tuple[bool, int, Key]] = asyncio.PriorityQueue()
        self._counter = itertools.count()
        self._queued: dict[Key, float] = {}  # since when, by the monotonic clock; the oldest first
        self._working: dict[Key, float] = {}
        self._urgent: set[Key] = set()  # of those that are queued
        self._again: dict[Key, bool] = {}  # whether it is urgent then
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._backoffs: dict[Key, Backoff] = {}
        self._backoff_seconds = (first_backoff_seconds, longest_backoff_seconds)

    def __len__(self) -> int:
        """Keys that wait to be taken."""
        return len(self._queued)

    def oldest_seconds(self) -> float:
        """How long the key that waits or is worked on longest has done so; 0 if there is none."""
        oldest = [next(iter(keys.values())) for keys in (self._queued, self._working) if keys]
        return time.monotonic() - min(oldest) if oldest else 0.0

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """As soon as a worker is free."""
        if key in self._working:
            self._again[key] = urgent or self._again.get(key, False)
            return
        if key in self._queued and (key in self._urgent or not urgent):
            return
        self._queued.setdefault(key, time.monotonic())
        if urgent:
            self._urgent.add(key)
        self._ready.put_nowait((not urgent, next(self._counter), key))

    def add_after(self, key: Key, seconds: float) -> None:
        """After a delay, unless it is taken sooner; of several delays the shortest counts."""
        loop = asyncio.get_running_loop()
        due = loop.time() + min(max(seconds, 0.0), _LONGEST_DELAY_SECONDS)
        timer = self._timers.get(key)
        if timer is None or due < timer.when():
            self._cancel_timer(key)
            self._timers[key] = loop.call_at(due, self._due, key)

    def is_working_on(self, key: Key) -> bool:
        return key in self._working

    async def take(self) -> Key:
        """The next key; it is the caller's until `done` or `failed`."""
        _, _, key = await self._ready.get()
        while key not in self._queued:  # it was taken when it had become urgent
            _, _, key = await self._ready.get()
        del self._queued[key]
        self._urgent.discard(key)
        self._working[key] = time.monotonic()
        self._cancel_timer(key)
        return key

    def done(self, key: Key) -> None:
        self._backoffs.pop(key, None)
        self._release(key)

    def failed(self, key: Key) -> float:
        """The seconds that it waits, unless it is added meanwhile."""
        seconds = self._backoffs.setdefault(key, Backoff(*self._backoff_seconds)).next()
        self.add_after(key, seconds)
        self._release(key)
        return seconds

    def _release(self, key: Key) -> None:
        self._working.pop(key, None)
        if key in self._again:
            self.add(key, urgent=self._again.pop(key))

    def _due(self, key: Key) -> None:
        del self._timers[key]
        self.add(key)

    def _cancel_timer(self, key: Key) -> None:
        if timer := self._timers.pop(key, None):
            timer.cancel()

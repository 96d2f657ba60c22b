"""What a pass is told beforehand, and need not read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from alignment_operator.api import Manifest
from alignment_operator.observe.jobs import JobSource

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values that were used last, at most so many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """It counts as used."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: Key, value: Value) -> None:
        """In the place of the one before, and of the one that was not used for longest."""
        self._kept[key] = value
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def drop(self, key: Key) -> None:
        """If it is there."""
        self._kept.pop(key, None)


Revisions = Recent[tuple[str, str], Manifest]
"""ControllerRevisions by the owner's UID and their name. What they hold never changes."""


@dataclass(frozen=True)
class Known:
    """`jobs`: where to look for Jobs; None: they are listed.

    `latest`: the object as this operator wrote it last, where nobody is known to have written since. `revisions`: what
    running iterations froze. `has_turn`: see ObservedCycle.
    """

    jobs: JobSource | None = None
    latest: Manifest | None = None
    revisions: Revisions | None = None
    has_turn: bool = True

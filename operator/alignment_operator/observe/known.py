"""What a pass is told beforehand, and need not read."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from alignment_operator.api import Manifest
from alignment_operator.observe.jobs import JobSource


class Revisions:
    """ControllerRevisions that were read last, by the owner's UID and their name. What they hold never changes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], Manifest] = OrderedDict()

    def get(self, owner_uid: str, name: str) -> Manifest | None:
        if found := self._kept.get((owner_uid, name)):
            self._kept.move_to_end((owner_uid, name))
        return found

    def keep(self, owner_uid: str, revision: Manifest) -> None:
        self._kept[owner_uid, revision["metadata"]["name"]] = revision
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)


@dataclass(frozen=True)
class Known:
    """`jobs`: where to look for Jobs; None: they are listed.

    `latest`: the object as the pass just before this one left it. `revisions`: what running iterations froze.
    `has_turn`: see ObservedCycle.
    """

    jobs: JobSource | None = None
    latest: Manifest | None = None
    revisions: Revisions | None = None
    has_turn: bool = True

"""A local copy of some objects, as slim as asked for, that follows the API server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import NoReturn

from alignment_operator.api import Kind, Manifest
from alignment_operator.cluster import UNREACHABLE, Cluster, ExpiredError
from alignment_operator.runtime.backoff import Backoff
from alignment_operator.runtime.hearing import Hearing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """What is followed. An empty namespace is all of them."""

    kind: Kind
    namespace: str
    selector: str


@dataclass
class Reflector:
    """Lists, then watches, for ever.

    A watch that ends or breaks goes on from the last version seen; a version that the server has forgotten (410) means
    listing again. `slim` is what is kept of an object, as JSON: a third of the memory that dictionaries take. `changed`
    is told its slim form whenever that differs from before, and the one before; None for what is not there.
    """

    cluster: Cluster
    selection: Selection
    slim: Callable[[Manifest], Manifest]
    group: Callable[[Manifest], str]
    changed: Callable[[Manifest | None, Manifest | None], None]
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    hearing: Hearing = field(default_factory=Hearing)
    _objects: dict[str, bytes] = field(default_factory=dict)
    _groups: dict[str, set[str]] = field(default_factory=dict)

    def grouped(self, group: str) -> list[Manifest]:
        """The objects of which `group` says so."""
        return [json.loads(self._objects[uid]) for uid in self._groups.get(group, ())]

    async def run(self) -> NoReturn:
        """Until it is cancelled."""
        backoff = Backoff(0.2, 30.0)
        version = ""
        while True:
            try:
                if not version:
                    version = await self._list()
                    self.hearing.heard()
                    self.synced.set()
                async for event, item in self._watch(version):
                    version = item["metadata"]["resourceVersion"]
                    self._see(event, item)
                    backoff.reset()
                self.hearing.tried()
            except ExpiredError:
                version = ""
                await asyncio.sleep(backoff.next())
            except UNREACHABLE as error:
                self.hearing.tried()
                seconds = backoff.next()
                log.info("%s: %s; again in %.1f s", self.selection.kind.plural, _said(error), seconds)
                await asyncio.sleep(seconds)

    async def _list(self) -> str:
        selection = self.selection
        items, version = await self.cluster.list_all(selection.kind, selection.namespace, selection.selector)
        present = {item["metadata"]["uid"] for item in items}
        for uid in self._objects.keys() - present:
            self._forget(uid)
        for item in items:
            self._keep(item)
        return version

    def _watch(self, version: str) -> AsyncIterator[tuple[str, Manifest]]:
        selection = self.selection
        return self.cluster.watch(
            selection.kind, selection.namespace, selection.selector, version, self.hearing.heard
        )

    def _see(self, event: str, item: Manifest) -> None:
        if event == "DELETED":
            self._forget(item["metadata"]["uid"])
        elif event != "BOOKMARK":
            self._keep(item)

    def _keep(self, item: Manifest) -> None:
        uid, new = item["metadata"]["uid"], self.slim(item)
        kept = json.dumps(new, separators=(",", ":")).encode()
        before = self._objects.get(uid)
        if before == kept:
            return
        old = None if before is None else json.loads(before)
        if old is not None:
            self._ungroup(uid, old)
        self._objects[uid] = kept
        self._groups.setdefault(self.group(new), set()).add(uid)
        self.changed(new, old)

    def _forget(self, uid: str) -> None:
        before = self._objects.pop(uid, None)
        if before is not None:
            old = json.loads(before)
            self._ungroup(uid, old)
            self.changed(None, old)

    def _ungroup(self, uid: str, old: Manifest) -> None:
        group = self._groups[self.group(old)]
        group.discard(uid)
        if not group:
            del self._groups[self.group(old)]


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__

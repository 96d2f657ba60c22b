"""Compares what was heard of our own kinds with what there is.

kopf follows them and keeps its watches to itself: that one has gone deaf, or that an object was deleted while it was
away, shows only by looking. Names and versions alone are listed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import NoReturn

from alignment_operator.api import Kind
from alignment_operator.cluster import UNREACHABLE, Cluster, ExpiredError
from alignment_operator.runtime.controller import Controller, Key
from alignment_operator.runtime.hearing import Hearing

log = logging.getLogger(__name__)

_FIRST_SECONDS = 0.2  # until kopf has listed them too
_LIST_AGAIN_SECONDS = 15.0


class Audit:
    """Of one kind. What it finds unheard is looked at by a pass; what was unheard twice running is a deaf watch."""

    def __init__(
        self, cluster: Cluster, controller: Controller, kind: Kind, namespaces: Sequence[str]
    ) -> None:
        self._cluster = cluster
        self._controller = controller
        self.kind = kind
        self._namespaces = namespaces
        self.hearing = Hearing()
        self.synced = asyncio.Event()  # every object that there is was heard of once
        self._unheard: set[tuple[Key, str]] = set()
        self._first: dict[Key, str] = {}
        self._list_again_at = 0.0

    async def run(self, every_seconds: float) -> NoReturn:
        """Until it is cancelled."""
        while True:
            try:
                await self.look()
            except (*UNREACHABLE, ExpiredError) as error:
                self.hearing.tried()
                log.info("%s were not listed: %s", self.kind.plural, str(error) or type(error).__name__)
            await asyncio.sleep(every_seconds if self.synced.is_set() else _FIRST_SECONDS)

    async def look(self) -> None:
        """Once. Raises what `Cluster.versions` raises."""
        if not self.synced.is_set():
            unheard = self._controller.unheard(self.kind, await self._there_at_first())
            if all(version for _, version in unheard):
                self.synced.set()
                self._first = {}
            return
        unheard = self._controller.unheard(self.kind, await self._there())
        deaf_to = unheard & self._unheard
        self._unheard = unheard
        for key, _ in unheard:
            self._controller.queue.add(key)
        if deaf_to:
            named = ", ".join(sorted(f"{key.namespace}/{key.name}" for key, _ in deaf_to)[:5])
            log.warning("the watch of %s is deaf: it has not told of %s", self.kind.plural, named)
        else:
            self.hearing.heard()

    async def _there_at_first(self) -> dict[Key, str]:
        """Listed seldom while kopf hears of it: only what was deleted before kopf listed is never heard of."""
        if time.monotonic() >= self._list_again_at:
            self._first = await self._there()
            self._list_again_at = time.monotonic() + _LIST_AGAIN_SECONDS
        return self._first

    async def _there(self) -> dict[Key, str]:
        there: dict[Key, str] = {}
        for namespace in self._namespaces:
            async for found, name, version in self._cluster.versions(self.kind, namespace):
                there[Key(self.kind, found, name)] = version
        return there

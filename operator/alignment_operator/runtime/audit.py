"""Compares what was heard of our own kinds with what there is.

kopf follows them and keeps its watches to itself: that one has gone deaf, or that an object was deleted while it was
away, shows only by looking. Names and versions alone are listed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import NoReturn

from alignment_operator.api import Kind
from alignment_operator.cluster import UNREACHABLE, Cluster, ExpiredError
from alignment_operator.runtime.controller import Controller, Key
from alignment_operator.runtime.hearing import Hearing

log = logging.getLogger(__name__)

_FIRST_SECONDS = 0.5  # until kopf has listed them too


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
        there: dict[Key, str] = {}
        for namespace in self._namespaces:
            async for found, name, version in self._cluster.versions(self.kind, namespace):
                there[Key(self.kind, found, name)] = version
        unheard = self._controller.unheard(self.kind, there)
        if not self.synced.is_set():
            if all(version for _, version in unheard):
                self.synced.set()
            return
        deaf_to = unheard & self._unheard
        self._unheard = unheard
        for key, _ in unheard:
            self._controller.queue.add(key)
        if deaf_to:
            named = ", ".join(sorted(f"{key.namespace}/{key.name}" for key, _ in deaf_to)[:5])
            log.warning("the watch of %s is deaf: it has not told of %s", self.kind.plural, named)
        else:
            self.hearing.heard()

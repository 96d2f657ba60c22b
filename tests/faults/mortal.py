"""The operator's client of a real API server, that numbers its writes and can die at any of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from kubernetes.aio.client import ApiClient

from alignment_operator.api import Kind, Manifest
from alignment_operator.cluster import Cluster
from tests.chart.audit import Access
from tests.faults.access import accesses

_LATE_SECONDS = 1.0  # a stale cache hears of everything at once, so often
_WINDOW_SECONDS = 0.1
_REFUSED = 400


@dataclass(frozen=True)
class Death:
    """At the write of this number, from 1: before it is sent, or when it is done and the answer is not read.

    What the server refuses (there is one of that name) is no write: nothing is different after it.
    """

    write: int
    when: Literal["before", "after"]


class KilledError(BaseException):
    """The operator ends here, and nothing of it can catch that."""


class Mortal(Cluster):
    """One life's client. After its death it sends nothing more, whoever of the operator asks."""

    def __init__(self, client: ApiClient, death: Death | None = None, *, stale: bool = False) -> None:
        super().__init__(client)
        self.writes: list[str] = []
        self.refused: list[str] = []
        self.used: set[Access] = set()
        self.dead = False
        self._death = death
        self._stale = stale

    async def watch(
        self, kind: Kind, namespace: str, selector: str, version: str, heard: Callable[[], None]
    ) -> AsyncIterator[tuple[str, Manifest]]:
        async for event in super().watch(kind, namespace, selector, version, heard):
            late = time.monotonic() % _LATE_SECONDS
            if self._stale and late > _WINDOW_SECONDS:
                await asyncio.sleep(_LATE_SECONDS - late)
            yield event

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | None,
        content_type: str | None,
        patience: aiohttp.ClientTimeout,
        accept: str = "application/json",
    ) -> Any:
        self._live()
        if method == "GET":
            return await super()._request(method, path, query, body, content_type, patience, accept)
        if self._dies("before", len(self.writes) + 1):
            self._die()
        answer = await super()._request(method, path, query, body, content_type, patience, accept)
        self.used.update(accesses(method, path, answer.status))
        if answer.status >= _REFUSED:
            self.refused.append(f"{method} {path}")
            return answer
        self.writes.append(f"{method} {path}")
        if self._dies("after", len(self.writes)):
            self._die()
        return answer

    def _dies(self, when: str, write: int) -> bool:
        """Two writes may be under way at once, so that none has just that number."""
        return self._death is not None and self._death.when == when and write >= self._death.write

    def _live(self) -> None:
        if self.dead:
            raise KilledError

    def _die(self) -> None:
        self.dead = True
        raise KilledError

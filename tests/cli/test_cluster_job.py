"""A Job of the user's own, whatever becomes of the connection and of whoever waits."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import aiohttp
import pytest

from alignment_api.iteration_report import framed
from alignment_operator.cli.cluster_job import answer_of
from alignment_operator.cluster import Cluster

JOB = {"metadata": {"name": "noise", "namespace": "team"}, "spec": {}}
ENDED = {"name": "worker", "state": {"terminated": {"exitCode": 0}}}


class Stub:
    """A cluster on which the pod has ended at the second look; the first look is lost."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.making = asyncio.Event()
        self.may_be_made = asyncio.Event()
        self._looks = 0

    async def create(self, _kind: object, manifest: dict[str, Any]) -> dict[str, Any]:
        self.making.set()
        await self.may_be_made.wait()
        self.there.add("uid-9")
        return {"metadata": {**manifest["metadata"], "uid": "uid-9"}}

    async def list(self, *_: object) -> list[dict[str, Any]]:
        self._looks += 1
        if self._looks == 1:
            raise aiohttp.ServerDisconnectedError
        return [{"metadata": {"name": "noise-x"}, "status": {"containerStatuses": [ENDED]}}]

    async def log(self, *_: object) -> bytes:
        return b"loading\n" + framed(b"the answer").encode()

    async def delete(self, _kind: object, _namespace: str, _name: str, uid: str) -> None:
        self.there.remove(uid)


def test_a_connection_that_is_lost_is_no_reason_to_end() -> None:
    told: list[str] = []

    async def asked() -> Stub:
        api = Stub()
        api.may_be_made.set()
        assert await answer_of(cast("Cluster", api), JOB, 60, told.append) == b"the answer"
        return api

    assert asyncio.run(asked()).there == set()
    assert told == ["the cluster cannot be reached: Server disconnected"]


def test_who_is_interrupted_while_it_is_made_deletes_it_all_the_same() -> None:
    async def interrupted() -> Stub:
        api = Stub()
        asking = asyncio.create_task(answer_of(cast("Cluster", api), JOB, 60))
        await api.making.wait()
        asking.cancel()
        await asyncio.sleep(0)
        api.may_be_made.set()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return api

    api = asyncio.run(interrupted())
    assert api.may_be_made.is_set()
    assert api.there == set()

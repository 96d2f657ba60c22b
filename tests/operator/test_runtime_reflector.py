"""The reflector follows a real API server through every way in which a watch can end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from alignment_operator.api import CYCLE, Manifest
from alignment_operator.cluster import Cluster, connect
from alignment_operator.runtime.reflector import Reflector, Selection
from tests.cluster.client import Namespace
from tests.operator.edges import OnApi, cycle

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

SECONDS = 30


def slim(item: Manifest) -> Manifest:
    metadata = item["metadata"]
    return {"name": metadata["name"], "mark": (metadata.get("annotations") or {}).get("mark", "")}


def named(item: Manifest | None) -> str:
    assert item is not None
    return str(item["name"] + item["mark"])


class Followed:
    """A running reflector, and what it told of."""

    def __init__(self, api: Cluster, namespace: Namespace) -> None:
        self.told: list[str] = []
        self.reflector = Reflector(
            api,
            Selection(CYCLE, namespace.name, ""),
            slim=slim,
            group=lambda item: item["mark"],
            changed=lambda now, before: self.told.append(named(now or before)),
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not holds():  # noqa: ASYNC110 - what holds is often on the server
                await asyncio.sleep(0.02)

    def marked(self, mark: str) -> list[str]:
        return sorted(item["name"] for item in self.reflector.grouped(mark))


def established(api: Cluster) -> list[asyncio.Transport]:
    """Connections in use whose handshake is done."""
    acquired = api._client.rest_client.pool_manager.connector._acquired
    transports = [getattr(protocol, "transport", None) for protocol in acquired]
    return [transport for transport in transports if transport is not None]


@contextlib.asynccontextmanager
async def following(api: Cluster, namespace: Namespace) -> AsyncIterator[Followed]:
    followed = Followed(api, namespace)
    task = asyncio.create_task(followed.reflector.run())
    try:
        await asyncio.wait_for(followed.reflector.synced.wait(), SECONDS)
        yield followed
        assert not task.done()
        # To cancel it in the middle of a handshake leaks the socket
        await followed.until(lambda: bool(established(api)))
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def mark(api: Cluster, namespace: Namespace, name: str, value: str) -> None:
    await api.merge(CYCLE, namespace.name, name, {"metadata": {"annotations": {"mark": value}}})


def test_it_holds_what_was_there_and_what_comes_and_lets_go_of_what_goes(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> None:
        await api.create(CYCLE, cycle("old", namespace.name))
        async with following(api, namespace) as followed:
            assert followed.marked("") == ["old"]
            made = await api.create(CYCLE, cycle("new", namespace.name))
            await followed.until(lambda: followed.marked("") == ["new", "old"])
            await mark(api, namespace, "new", "x")
            await followed.until(lambda: (followed.marked(""), followed.marked("x")) == (["old"], ["new"]))
            await api.delete(CYCLE, namespace.name, "new", made["metadata"]["uid"])
            await followed.until(lambda: followed.marked("x") == [])
            assert followed.told == ["old", "new", "newx", "newx"]

    on_api(work)


def test_a_change_that_is_not_kept_is_not_told(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        await api.create(CYCLE, cycle("support", namespace.name))
        async with following(api, namespace) as followed:
            await api.merge(CYCLE, namespace.name, "support", {"metadata": {"annotations": {"other": "1"}}})
            await mark(api, namespace, "support", "x")
            await followed.until(lambda: followed.marked("x") == ["support"])
            assert followed.told == ["support", "supportx"]

    on_api(work)


class Cuttable(Cluster):
    """Its connections can be cut, as by a load balancer that was restarted."""

    def cut(self) -> int:
        """How many there were."""
        connections = established(self)
        for transport in connections:
            transport.abort()
        return len(connections)


def test_it_goes_on_after_the_connection_was_cut(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        await api.create(CYCLE, cycle("support", namespace.name))
        async with connect() as other:
            cuttable = Cuttable(other._client)
            async with following(cuttable, namespace) as followed:
                for value in ("x", "y", "z"):
                    await followed.until(lambda: cuttable.cut() > 0)
                    await mark(api, namespace, "support", value)
                    await followed.until(lambda value=value: followed.marked(value) == ["support"])  # type: ignore[misc]
                assert followed.told == ["support", "supportx", "supporty", "supportz"]

    on_api(work)


class Forgetful(Cluster):
    """Asks to watch from a version that the server has long forgotten, once."""

    forgot = False

    def watch(self, *arguments: Any) -> AsyncIterator[tuple[str, Manifest]]:
        if not self.forgot:
            self.forgot = True
            arguments = (*arguments[:3], "1", *arguments[4:])
        return super().watch(*arguments)


def test_it_lists_again_when_its_version_has_expired(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        await api.create(CYCLE, cycle("support", namespace.name))
        forgetful = Forgetful(api._client)
        async with following(forgetful, namespace) as followed:
            await followed.until(lambda: forgetful.forgot)
            await mark(api, namespace, "support", "x")
            await followed.until(lambda: followed.marked("x") == ["support"])
            assert followed.told == ["support", "supportx"]

    on_api(work)


class Deaf(Cluster):
    """Hears nothing until it lists a second time: what goes meanwhile, it never hears of."""

    lists = 0
    opened: asyncio.Event

    async def list_all(self, *arguments: Any) -> Any:
        self.lists += 1
        return await super().list_all(*arguments)

    async def watch(self, *arguments: Any) -> AsyncIterator[tuple[str, Manifest]]:
        if self.lists < 2:
            await self.opened.wait()
            arguments = (*arguments[:3], "1", *arguments[4:])
        async for each in super().watch(*arguments):
            yield each


def test_what_went_while_nobody_listened_is_let_go_of(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        made = await api.create(CYCLE, cycle("support", namespace.name))
        deaf = Deaf(api._client)
        deaf.opened = asyncio.Event()
        async with following(deaf, namespace) as followed:
            assert followed.marked("") == ["support"]
            await api.delete(CYCLE, namespace.name, "support", made["metadata"]["uid"])
            deaf.opened.set()
            await followed.until(lambda: followed.marked("") == [])
            assert followed.told == ["support", "support"]

    on_api(work)


def test_it_waits_for_a_server_that_is_not_there_yet(on_api: OnApi[Any], namespace: Namespace) -> None:
    """And for a kind that the server does not know yet, and for leave to read it."""

    class Starting(Cluster):
        refusals = 2

        async def list_all(self, *arguments: Any) -> Any:
            if self.refusals:
                self.refusals -= 1
                raise ConnectionRefusedError
            return await super().list_all(*arguments)

    async def work(api: Cluster) -> None:
        await api.create(CYCLE, cycle("support", namespace.name))
        async with following(Starting(api._client), namespace) as followed:
            assert followed.marked("") == ["support"]

    on_api(work)

"""Between operators, the real processes, and the API server: numbers their writes, and cuts or delays their watches."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

import aiohttp
import yaml
from aiohttp import web
from yarl import URL

from tests.cluster.processes import free_ports
from tests.faults.mortal import Death

_KEPT_HEADERS = ("Accept", "Content-Type", "User-Agent")
_UNLIMITED = aiohttp.ClientTimeout(total=None)


class Proxy:
    """`watches`: Open, Cut (every one is broken, and none is begun), or Silent (they stay, and tell nothing).

    `death` and `kill`: at the write of this number `kill` is called, before it is passed on or after it is done, and
    it gets no answer.
    """

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server = cluster["server"]
        self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._token = config["users"][0]["user"]["token"]
        self._telling = asyncio.Event()
        self._telling.set()
        self._cut = False
        self._watching: set[asyncio.Transport] = set()
        self.writes = 0
        self.death: Death | None = None
        self.kill: Callable[[], None] = lambda: None

    def watches(self, are: Literal["Open", "Cut", "Silent"]) -> None:
        self._cut = are == "Cut"
        (self._telling.clear if are == "Silent" else self._telling.set)()
        if self._cut:
            for transport in self._watching:
                transport.abort()

    @contextlib.asynccontextmanager
    async def serving(self, folder: Path) -> AsyncIterator[Path]:
        """A kubeconfig that leads here."""
        (port,) = free_ports(1)
        config = {
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
            "users": [{"name": "proxy", "user": {"token": "the proxy has one"}}],
        }
        kubeconfig = folder / f"proxy-{port}.kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(config))
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        async with aiohttp.ClientSession(auto_decompress=False, timeout=_UNLIMITED) as self._session:
            await web.TCPSite(runner, "127.0.0.1", port, shutdown_timeout=0.1).start()
            try:
                yield kubeconfig
            finally:
                await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._passed(request)
        except aiohttp.ClientError:  # one side is gone; the other shall see that
            return _drop(request)

    async def _passed(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            return await self._watch(request)
        here = None
        if request.method != "GET":
            self.writes += 1
            here = self.death if self.death and self.death.write == self.writes else None
        if here and here.when == "before":
            return self._killed(request)
        async with self._ask(request, await request.read()) as answer:
            body = await answer.read()
            if here:
                return self._killed(request)
            return web.Response(status=answer.status, body=body, content_type=answer.content_type)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        if self._cut:
            return _drop(request)
        transport = request.transport
        assert transport is not None
        self._watching.add(transport)
        try:
            async with self._ask(request, None) as answer:
                response = web.StreamResponse(status=answer.status)
                response.content_type = answer.content_type
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await self._telling.wait()
                    await response.write(chunk)
                return response
        finally:
            self._watching.discard(transport)

    def _ask(self, request: web.Request, body: bytes | None) -> aiohttp.client._RequestContextManager:
        headers = {name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers}
        headers |= {"Authorization": f"Bearer {self._token}", "Accept-Encoding": "identity"}
        url = URL(self._server + request.raw_path, encoded=True)
        return self._session.request(request.method, url, headers=headers, data=body or None, ssl=self._tls)

    def _killed(self, request: web.Request) -> web.Response:
        self.kill()
        return _drop(request)


def _drop(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)

"""The process: proxy, log and metrics, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import prometheus_client
from aiohttp import web
from yarl import URL

from alignment_recorder.log import Log, LogOptions
from alignment_recorder.proxy import Proxy, ProxyOptions

_GRACE_SECONDS = 20.0
# The log's thread must not keep an answer waiting for the interpreter's usual 5 ms.
_SWITCH_SECONDS = 0.0005


class StartError(Exception):
    """Folder or port cannot be had; the message says which."""


@dataclass(frozen=True)
class Server:
    """`metrics_port` 0: none."""

    upstream: str
    log: LogOptions
    digest_file: Path | None
    port: int
    metrics_port: int

    def run(self) -> None:
        """Until SIGTERM or SIGINT: then no request is taken any more, those that run end, and the log is completed.

        Raises StartError.
        """
        sys.setswitchinterval(_SWITCH_SECONDS)
        log = Log(self.log)
        try:
            log.start()
        except OSError as error:
            raise StartError(f"--log {self.log.folder}: cannot be written: {error}") from error
        try:
            asyncio.run(self._serve(log))
        finally:
            log.close(_GRACE_SECONDS)

    async def _serve(self, log: Log) -> None:
        proxy = Proxy(ProxyOptions(URL(self.upstream), self.digest_file), log)
        runner = web.AppRunner(
            proxy.application(),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=_GRACE_SECONDS,
            auto_decompress=False,  # a body goes on as its headers say that it is
        )
        metrics = web.AppRunner(_metrics(), access_log=None)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            await _listening(runner, self.port)
            if self.metrics_port:
                await _listening(metrics, self.metrics_port)
            await stop.wait()
        finally:
            await runner.cleanup()
            await metrics.cleanup()


async def _listening(runner: web.AppRunner, port: int) -> None:
    await runner.setup()
    try:
        await web.TCPSite(runner, None, port).start()
    except OSError as error:
        raise StartError(f"port {port} cannot be had: {error}; name another") from error


def _metrics() -> web.Application:
    async def say(_request: web.Request) -> web.Response:
        body = prometheus_client.generate_latest()
        return web.Response(body=body, headers={"Content-Type": prometheus_client.CONTENT_TYPE_LATEST})

    async def healthy(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", say), web.get("/healthz", healthy)])
    return app

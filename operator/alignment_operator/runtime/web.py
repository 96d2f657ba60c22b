"""What is asked of the operator over HTTP: probes and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web


class PortTakenError(Exception):
    """Somebody else listens there; the message says which port."""


Answer = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def served(port: int | None, answers: Mapping[str, Answer]) -> AsyncIterator[None]:
    """GET of each path, on all addresses of the pod, as long as the context lasts; None: nothing.

    Raises PortTakenError.
    """
    if port is None:
        yield
        return
    app = web.Application()
    app.add_routes([web.get(path, answer) for path, answer in answers.items()])
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1.0, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, None, port).start()
        except OSError as error:
            paths = " and ".join(answers)
            raise PortTakenError(f"port {port} cannot be had for {paths}: {error}; name another") from error
        yield
    finally:
        await runner.cleanup()

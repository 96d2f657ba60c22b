"""The part of the kubelet's API that `kubectl logs` needs."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from tests.cluster.status import ADDRESS

_FOLLOW_SECONDS = 0.2
_CHUNK_BYTES = 65536

# Log of a container by namespace, pod and container, and whether it is complete; None if there is none.
FindLog = Callable[[str, str, str], tuple[Path, bool] | None]


async def serve_logs(find: FindLog, certificates: Path, port: int) -> web.AppRunner:
    """Serve logs on 127.0.0.1, with the API server's certificate, until cleanup() of the result."""

    async def respond(request: web.Request) -> web.StreamResponse:
        info = request.match_info
        names = info["namespace"], info["pod"], info["container"]
        found = find(*names)
        if found is None:
            return web.Response(status=404, text=f"no log of container {names[2]}\n")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        with found[0].open("rb") as file:
            if tail := request.query.get("tailLines"):
                file.seek(_tail_offset(file.read(), int(tail)))
            while True:
                # Asked before the rest is read: what a container writes last must not be missed.
                current = find(*names)
                if chunk := file.read(_CHUNK_BYTES):
                    await response.write(chunk)
                elif request.query.get("follow") != "true" or current is None or current[1]:
                    break
                else:
                    await asyncio.sleep(_FOLLOW_SECONDS)
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", respond)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "apiserver.crt", certificates / "apiserver.key")
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, port, ssl_context=context).start()
    return runner


def _tail_offset(content: bytes, lines: int) -> int:
    ends = [index + 1 for index, byte in enumerate(content) if byte == 0x0A]
    if content and not content.endswith(b"\n"):
        ends.append(len(content))
    return ends[-lines - 1] if 0 < lines < len(ends) else len(content) if lines == 0 else 0

"""Probes and lifecycle hooks of containers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from tests.cluster.api import Json
from tests.cluster.containers import ContainerProcess
from tests.cluster.status import ContainerState

# Sooner than the kubelet asks for, and never later: nobody waits 10 s for a program that is up.
_EAGER_SECONDS = 0.25


async def watch_probes(state: ContainerState, process: ContainerProcess, changed: Callable[[], None]) -> None:
    """Keep `started` and `passes` of a running container true to its probes.

    Returns when the container has to be killed, as its startup or liveness probe failed too often; otherwise
    goes on until it is cancelled.
    """
    container = state.spec
    startup = container.get("startupProbe")
    if startup and not await _becomes(startup, container, process, passing=True):
        return
    state.started = True
    state.passes = "readinessProbe" not in container
    changed()
    watchers: list[asyncio.Task[Any]] = [asyncio.create_task(_readiness(state, process, changed))]
    if probe := container.get("livenessProbe"):
        watchers.append(asyncio.create_task(_becomes(probe, container, process, passing=False)))
    try:
        # The readiness watcher never ends by itself.
        await asyncio.wait(watchers, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for watcher in watchers:
            watcher.cancel()


async def _readiness(state: ContainerState, process: ContainerProcess, changed: Callable[[], None]) -> None:
    probe = state.spec.get("readinessProbe")
    if probe is None:
        await asyncio.Event().wait()
        return
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    streak = 0
    while True:
        passed = await _probe(probe, state.spec, process)
        streak = streak + 1 if passed != state.passes else 0
        needed = probe.get("failureThreshold", 3) if state.passes else probe.get("successThreshold", 1)
        if streak >= needed:
            state.passes, streak = passed, 0
            changed()
        period = probe.get("periodSeconds", 10)
        await asyncio.sleep(period if state.passes else min(period, _EAGER_SECONDS))


async def _becomes(probe: Json, container: Json, process: ContainerProcess, *, passing: bool) -> bool:
    """Probe until it passes, if `passing`, or until it failed as often in a row as is allowed: False."""
    await asyncio.sleep(probe.get("initialDelaySeconds", 0))
    failures = 0
    while failures < probe.get("failureThreshold", 3):
        if await _probe(probe, container, process):
            if passing:
                return True
            failures = 0
        else:
            failures += 1
        await asyncio.sleep(probe.get("periodSeconds", 10))
    return False


async def _probe(probe: Json, container: Json, process: ContainerProcess) -> bool:
    try:
        async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
            return await _attempt(probe, container, process)
    except (OSError, TimeoutError, aiohttp.ClientError):
        return False


async def run_hook(hook: Json, container: Json, process: ContainerProcess) -> None:
    """Run a preStop or postStart hook to its end, whether it succeeds or not."""
    if sleep := hook.get("sleep"):
        await asyncio.sleep(sleep["seconds"])
        return
    with contextlib.suppress(OSError, TimeoutError, aiohttp.ClientError):
        await _attempt(hook, container, process)


async def _attempt(action: Json, container: Json, process: ContainerProcess) -> bool:
    for kind, attempt in _ATTEMPTS.items():
        if kind in action:
            return await attempt(action[kind], container, process)
    # A gRPC probe, which the node does not speak, must not keep a pod from its work.
    return True


async def _http(action: Json, container: Json, process: ContainerProcess) -> bool:
    scheme = action.get("scheme", "HTTP").lower()
    url = f"{scheme}://{action.get('host') or process.address}:{_port(action, container)}{action.get('path', '/')}"
    headers = {row["name"]: row["value"] for row in action.get("httpHeaders", ())}
    # Like the kubelet's, probes do not verify certificates.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
        session.get(url, headers=headers) as response,
    ):
        return 200 <= response.status < 400


async def _tcp(action: Json, container: Json, process: ContainerProcess) -> bool:
    _, writer = await asyncio.open_connection(action.get("host") or process.address, _port(action, container))
    writer.close()
    return True


async def _exec(action: Json, container: Json, process: ContainerProcess) -> bool:
    command = (
        "nsenter",
        "--target",
        str(process.inner_pid()),
        "--mount",
        "--pid",
        "--uts",
        "--ipc",
        "--root",
        "--wd",
    )
    nothing = asyncio.subprocess.DEVNULL
    inside = await asyncio.create_subprocess_exec(
        *command, "--", *action["command"], stdin=nothing, stdout=nothing, stderr=nothing
    )
    try:
        return await inside.wait() == 0
    finally:
        if inside.returncode is None:
            inside.kill()


_Attempt = Callable[[Json, Json, ContainerProcess], Awaitable[bool]]
_ATTEMPTS: dict[str, _Attempt] = {"httpGet": _http, "tcpSocket": _tcp, "exec": _exec}


def _port(action: Json, container: Json) -> int:
    port: str | int = action["port"]
    named: dict[str | int, int] = {
        row.get("name"): row["containerPort"] for row in container.get("ports", ())
    }
    return int(named.get(port, port))

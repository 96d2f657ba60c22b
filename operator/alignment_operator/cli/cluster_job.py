"""A Job of the user's own on a cluster: made, waited for, heard and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp

from alignment_api.iteration_report import unframed
from alignment_operator.api import JOB, POD, NotFoundError
from alignment_operator.cluster import Cluster
from alignment_operator.local.reading import ReadingError
from alignment_operator.observe.pods import pod_view
from alignment_operator.render.layout import WORKER

_FIRST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS, _SLOWER = 0.5, 5.0, 1.1


async def answer_of(
    api: Cluster, job: dict[str, Any], patience_seconds: float, told: Callable[[str], None] = lambda _: None
) -> bytes:
    """What its pod framed on its log. `told`: what it waits for, whenever that changes.

    Raises ReadingError, and what the API raises.
    """
    namespace, name = job["metadata"]["namespace"], job["metadata"]["name"]
    making = asyncio.ensure_future(api.create(JOB, job))
    try:
        await asyncio.shield(making)  # who is interrupted now must know what to delete
        return await _said(api, namespace, name, patience_seconds, told)
    finally:
        made = await making
        await api.delete(JOB, namespace, name, made["metadata"]["uid"])


async def _said(
    api: Cluster, namespace: str, name: str, patience: float, told: Callable[[str], None]
) -> bytes:
    waits, pause = "", _FIRST_LOOK_SECONDS
    deadline = asyncio.get_running_loop().time() + patience
    while asyncio.get_running_loop().time() < deadline:
        try:
            found = await _looked(api, namespace, name)
        except (aiohttp.ClientError, TimeoutError) as error:  # of hours, one that is lost is no reason to end
            found = f"the cluster cannot be reached: {error}"
        if isinstance(found, bytes):
            return found
        if found != waits:
            told(found)
        waits = found
        await asyncio.sleep(pause)
        pause = min(pause * _SLOWER, _LONGEST_LOOK_SECONDS)
    raise ReadingError(f"Job {name} did not end within {patience:g} s: {waits}")


async def _looked(api: Cluster, namespace: str, name: str) -> bytes | str:
    """The answer, if the Job's pod has given it; else what it waits for. Raises ReadingError."""
    waits = "the Job controller has made no pod"
    for pod in await api.list(POD, namespace, {"batch.kubernetes.io/job-name": name}):
        view = pod_view(pod)
        if view.exit_code is not None:
            return await _read(api, namespace, pod["metadata"]["name"], view.exit_code)
        waits = view.pending or "it runs"
    job = await api.get(JOB, namespace, name)
    if job is None:
        raise ReadingError(f"Job {name} was deleted while it was waited for")
    if failed := _failure(job):
        raise ReadingError(f"Job {name} failed: {failed}")
    return "it is suspended, and waits in its queue" if job["spec"].get("suspend") else waits


async def _read(api: Cluster, namespace: str, pod: str, code: int) -> bytes:
    try:
        log = await api.log(namespace, pod, WORKER)
    except NotFoundError as error:
        raise ReadingError(f"the log of pod {pod} is gone: {error}") from error
    if code != 0:
        lines = log.decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        raise ReadingError(f"pod {pod} ended with exit code {code}: {_last_word(lines)}")
    try:
        return unframed(log)
    except ValueError as error:
        raise ReadingError(f"pod {pod}: {error}; try again") from error


def _failure(job: dict[str, Any]) -> str:
    """Why it failed without a pod that ended; empty if it did not."""
    conditions = job.get("status", {}).get("conditions") or []
    found = next((each for each in conditions if each["type"] == "Failed" and each["status"] == "True"), None)
    return f"{found.get('reason', '')}: {found.get('message', '')}" if found else ""


def _last_word(lines: list[str]) -> str:
    """The worker's own error, else whatever stands last."""
    own = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
    return own.removeprefix("error: ")

"""Asks the workers of running Jobs how far they are, at leisure. No decision depends on it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import aiohttp

from alignment_api import telemetry
from alignment_api.cycle_status import StageProgress
from alignment_operator.api import POD, Manifest
from alignment_operator.cluster import UNREACHABLE, Cluster
from alignment_operator.observe.jobs import LABEL_POD_OF
from alignment_operator.render.layout import WORKER
from alignment_operator.runtime.backoff import Backoff

log = logging.getLogger(__name__)

_TICK_SECONDS = 2.0
_FIRST_SECONDS = 5.0  # many a stage is over by then
_EVERY_SECONDS = 30.0
_JOBS_A_SECOND = 5.0  # each answer is a status write
_AT_ONCE = 8
_MOST = 2**53  # of what JSON tells exactly, and far below what the API server takes for an integer
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)
_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 30.0, 600.0


@dataclass(frozen=True)
class Worker:
    """Where a pod says how far it is."""

    url: str
    host: str
    node: str


@dataclass
class _Followed:
    due: float
    workers: Sequence[Worker] = ()
    said: StageProgress | None = None
    backoff: Backoff = field(
        default_factory=lambda: Backoff(_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS)
    )


class ProgressReader:
    """`running` are the Jobs whose workers compute, slim; `changed` is told of one that got further."""

    def __init__(
        self,
        cluster: Cluster,
        running: Callable[[], Iterable[Manifest]],
        changed: Callable[[Manifest], None],
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._cluster = cluster
        self._running = running
        self._changed = changed
        self._every_seconds = every_seconds
        self._jobs: dict[str, _Followed] = {}

    def of(self, job_uid: str) -> StageProgress | None:
        """What was read last."""
        followed = self._jobs.get(job_uid)
        return followed.said if followed else None

    async def run(self) -> NoReturn:
        """Until it is cancelled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=False) as session:
            while True:
                await asyncio.sleep(min(_TICK_SECONDS, self._every_seconds))
                due = self._due(time.monotonic())
                for start in range(0, len(due), _AT_ONCE):
                    some = due[start : start + _AT_ONCE]
                    done = await asyncio.gather(
                        *(self._look(session, job) for job in some), return_exceptions=True
                    )
                    for job, error in zip(some, done, strict=True):
                        if error is not None:  # one Job's trouble must not end the operator
                            log.error("progress of %s", job["metadata"]["name"], exc_info=error)

    def _due(self, now: float) -> list[Manifest]:
        """Jobs to ask; those that run no more are forgotten."""
        running = {job["metadata"]["uid"]: job for job in self._running()}
        for uid in self._jobs.keys() - running.keys():
            del self._jobs[uid]
        for uid in running.keys() - self._jobs.keys():
            self._jobs[uid] = _Followed(now + min(_FIRST_SECONDS, self._every_seconds))
        return [job for uid, job in running.items() if self._jobs[uid].due <= now]

    async def _look(self, session: aiohttp.ClientSession, job: Manifest) -> None:
        followed = self._jobs[job["metadata"]["uid"]]
        try:
            if len(followed.workers) != job["status"].get("ready"):
                followed.workers = await self._workers(job)
            answers = await asyncio.gather(*(_asked(session, worker) for worker in followed.workers))
        except UNREACHABLE as error:
            log.debug("progress of %s: %s", job["metadata"]["name"], str(error) or type(error).__name__)
            answers = []
        told = [answer for answer in answers if answer is not None]
        if not told:
            followed.workers = ()
            followed.due = time.monotonic() + followed.backoff.next()
            return
        followed.backoff.reset()
        followed.due = time.monotonic() + max(self._every_seconds, len(self._jobs) / _JOBS_A_SECOND)
        before, followed.said = followed.said, together(told)
        if before is None or (before.done, before.unit) != (followed.said.done, followed.said.unit):
            self._changed(job)

    async def _workers(self, job: Manifest) -> list[Worker]:
        metadata = job["metadata"]
        pods = await self._cluster.list(POD, metadata["namespace"], {LABEL_POD_OF: metadata["uid"]})
        return [worker for pod in pods if (worker := worker_of(pod)) is not None]


def worker_of(pod: Manifest) -> Worker | None:
    """None for a pod that does not run, or that says nothing."""
    status, spec, metadata = pod.get("status", {}), pod["spec"], pod["metadata"]
    address = status.get("podIP")
    containers = [each for each in spec["containers"] if each["name"] == WORKER]
    ports = [
        port["containerPort"]
        for each in containers
        for port in each.get("ports") or []
        if port.get("name") == telemetry.PORT_NAME
    ]
    if status.get("phase") != "Running" or not address or not ports:
        return None
    host = f"[{address}]" if ":" in address else address
    return Worker(
        url=f"http://{host}:{ports[0]}{telemetry.PROGRESS_PATH}",
        host=spec.get("hostname") or metadata["name"],
        node=spec.get("nodeName") or "",
    )


async def _asked(session: aiohttp.ClientSession, worker: Worker) -> StageProgress | None:
    """None if nobody answers, or somebody else: an address may be another pod's by now."""
    body = b""
    try:
        async with session.get(worker.url, allow_redirects=False) as response:
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > telemetry.MAX_PROGRESS_BYTES:
                    return None
        return progress_of(json.loads(body), worker)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, ArithmeticError, RecursionError):
        return None


def progress_of(said: Any, worker: Worker) -> StageProgress | None:
    """What a worker says is data: None for anything but its own progress. Raises ValueError too."""
    if not isinstance(said, dict) or said.get("host") != worker.host or not said.get("unit"):
        return None
    left = said.get("secondsLeft")
    numbers = (said.get("done"), said.get("total"), left)
    if not all(number < _MOST for number in numbers if isinstance(number, int | float)):
        return None
    return StageProgress.from_wire(
        {
            "done": said.get("done"),
            "total": said.get("total") or None,
            "unit": said["unit"],
            "secondsLeft": round(left) if isinstance(left, int | float) else None,
            "node": worker.node or None,
        }
    )


def together(told: Sequence[StageProgress]) -> StageProgress:
    """Of the pods of one Job that do the same part; of a gang, only the first pod speaks."""
    alike = [each for each in told if each.unit == told[0].unit]
    totals = [each.total for each in alike if each.total is not None]
    nodes = sorted({each.node for each in alike if each.node})
    return StageProgress(
        done=sum(each.done for each in alike),
        total=sum(totals) if len(totals) == len(alike) else None,
        unit=alike[0].unit,
        seconds_left=max(
            (each.seconds_left for each in alike if each.seconds_left is not None), default=None
        ),
        node=f"{nodes[0]} and {len(nodes) - 1} more" if len(nodes) > 1 else next(iter(nodes), None),
    )

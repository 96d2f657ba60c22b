"""Reads the store of a cluster: a Job of the user's own that prints what it found, and is deleted."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from alignment_api import names
from alignment_api.iteration_report import ReadingConfig, unframed
from alignment_api.pods import PodDefaults
from alignment_operator.api import JOB, POD, NotFoundError
from alignment_operator.cluster import Cluster
from alignment_operator.local.reading import ReadingError
from alignment_operator.observe.pods import pod_view
from alignment_operator.observed import Owner
from alignment_operator.render.layout import WORKER
from alignment_operator.render.reading import Reading, render_reading

_LOOK_SECONDS = 0.5


class ClusterStore:
    """`pods`: the image and how it may run. `patience_seconds`: until its pod has ended. `kind`: the owner's."""

    def __init__(
        self,
        api: Cluster,
        owner: Owner,
        pods: PodDefaults,
        patience_seconds: float,
        kind: str = names.CYCLE_KIND,
    ) -> None:
        self._api = api
        self._owner = owner
        self._pods = pods
        self._patience = patience_seconds
        self._kind = kind

    async def read(self, config: ReadingConfig) -> bytes:
        """The answer to the config. Raises ReadingError, and what the API raises."""
        namespace = self._owner.namespace
        reading = Reading(
            names.reading_name(self._owner.name, secrets.token_hex(3)), config, self._pods, self._kind
        )
        try:
            manifest = render_reading(self._owner, reading)
        except ValueError as error:
            raise ReadingError(str(error)) from error
        job = await self._api.create(JOB, manifest)
        try:
            return await self._said(namespace, reading.name)
        finally:
            await self._api.delete(JOB, namespace, reading.name, job["metadata"]["uid"])

    async def _said(self, namespace: str, name: str) -> bytes:
        pod = await self._ended(namespace, name)
        try:
            log = await self._api.log(namespace, pod["metadata"]["name"], WORKER)
        except NotFoundError as error:
            raise ReadingError(f"the log of pod {pod['metadata']['name']} is gone: {error}") from error
        code = pod_view(pod).exit_code
        if code != 0:
            lines = log.decode(errors="replace").strip().splitlines() or ["it printed nothing"]
            raise ReadingError(
                f"pod {pod['metadata']['name']} ended with exit code {code}: {_last_word(lines)}"
            )
        try:
            return unframed(log)
        except ValueError as error:
            raise ReadingError(f"pod {pod['metadata']['name']}: {error}; try again") from error

    async def _ended(self, namespace: str, name: str) -> dict[str, Any]:
        """The Job's pod, when its worker has ended."""
        waits = "the Job controller has made no pod"
        deadline = asyncio.get_running_loop().time() + self._patience
        while asyncio.get_running_loop().time() < deadline:
            for pod in await self._api.list(POD, namespace, {"batch.kubernetes.io/job-name": name}):
                view = pod_view(pod)
                if view.exit_code is not None:
                    return pod
                waits = view.pending or "it runs still"
            job = await self._api.get(JOB, namespace, name)
            if job is None:
                raise ReadingError(f"Job {name} was deleted while it was waited for")
            if failed := _failure(job):
                raise ReadingError(f"Job {name} failed: {failed}")
            if job["spec"].get("suspend"):
                waits = "it is suspended, and waits in its queue"
            await asyncio.sleep(_LOOK_SECONDS)
        raise ReadingError(f"Job {name} did not end within {self._patience:g} s: {waits}")


def _failure(job: dict[str, Any]) -> str:
    """Why it failed without a pod that ended; empty if it did not."""
    conditions = job.get("status", {}).get("conditions") or []
    found = next((each for each in conditions if each["type"] == "Failed" and each["status"] == "True"), None)
    return f"{found.get('reason', '')}: {found.get('message', '')}" if found else ""


def _last_word(lines: list[str]) -> str:
    """The worker's own error, else whatever stands last."""
    own = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1])
    return own.removeprefix("error: ")

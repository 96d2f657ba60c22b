"""Plays Job controller, scheduler and kubelet for the Jobs of a state folder: one pod at a time, in the warm worker.

    STATE/jobs/POD/    stage.json, log, report, progress.json of one pod

A pod that this process did not see the end of (it was killed, or the user pressed Ctrl-C) counts as disrupted, as on a
node that is lost: its Job stays active and gets another pod.
"""

from __future__ import annotations

import asyncio
import json
import secrets as random_tokens
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alignment_api import names, python_grader, telemetry, uris
from alignment_api.stage import Stage, StageConfig
from alignment_operator.api import JOB, POD, Manifest
from alignment_operator.local.claims import Claims
from alignment_operator.local.directory import Directory
from alignment_operator.local.job_status import Conclusion, Ended, concluded
from alignment_operator.local.progress import Said, said_in
from alignment_operator.local.secrets import Secrets
from alignment_operator.local.worker import WarmWorker
from alignment_operator.observe.queue import queue_of

_REPORT_BYTES = 4096  # as much of the termination message as kubelet reads
_LOG_TAIL_BYTES = 2048  # with terminationMessagePolicy FallbackToLogsOnError
_GRACE_SECONDS = 30.0
# The pod's own file system and network.
_NOT_FOR_HERE = {"HOME", "TMPDIR", telemetry.ADDRESS_VARIABLE, python_grader.SOCKET_VARIABLE}


@dataclass(frozen=True)
class StageProgress:
    """How far the running stage is."""

    job: str
    stage: str
    said: Said


class Node:
    """Runs the active Jobs of one owner, the oldest first. `changed` is set whenever a Job's status changed."""

    def __init__(
        self,
        api: Directory,
        namespace: str,
        owner_uid: str,
        worker: WarmWorker,
        claims: Claims,
        secrets: Secrets,
    ) -> None:
        self.changed = asyncio.Event()
        self._api = api
        self._namespace = namespace
        self._labels = {names.LABEL_OWNER_UID: owner_uid}
        self._worker = worker
        self._claims = claims
        self._secrets = secrets
        self._running: tuple[Manifest, asyncio.Task[None]] | None = None
        self._pod_folder: Path | None = None
        self._stopping = False

    async def recover(self) -> None:
        """After another process ran here: pods that it left running are disrupted, finished Jobs expire."""
        for pod in await self._api.list(POD, self._namespace, {}):
            if pod.get("status", {}).get("phase") in ("Pending", "Running"):
                await self._end_pod(pod, Ended(pod["metadata"]["name"], 137, disrupted=True), "")
        await self._expire()

    async def sync(self) -> None:
        """Look at the Jobs: stop the pod of one that is gone or suspended, start the next.

        Raises what the pod's run raised.
        """
        if self._running is not None:
            job, task = self._running
            live = await self._live(job)
            if task.done():
                self._running = None
                task.result()
            elif live is None or live["spec"].get("suspend"):
                await self.stop()
        if self._running is None:
            job_ = await self._next()
            if job_ is not None:
                self._running = (job_, asyncio.create_task(self._run(job_)))

    @property
    def idle(self) -> bool:
        return self._running is None

    async def stop(self) -> None:
        """End the running pod, if any; its Job stays active."""
        running, self._running = self._running, None
        if running is None:
            return
        self._stopping = True
        running[1].cancel()
        with suppress(asyncio.CancelledError):
            await running[1]
        self._stopping = False

    def progress(self) -> StageProgress | None:
        """Of the running stage; None before it has said anything."""
        if self._running is None or self._pod_folder is None:
            return None
        said = said_in(self._pod_folder)
        if said is not None:
            job = self._running[0]["metadata"]
            return StageProgress(job["name"], job["labels"][names.LABEL_STAGE], said)
        return None

    async def _next(self) -> Manifest | None:
        jobs = await self._api.list(JOB, self._namespace, self._labels)
        active = [
            job for job in jobs if not _finished(job) and (queue_of(job) or not job["spec"].get("suspend"))
        ]
        return min(active, key=lambda job: job["metadata"]["creationTimestamp"], default=None)

    async def _live(self, job: Manifest) -> Manifest | None:
        live = await self._api.get(JOB, self._namespace, job["metadata"]["name"])
        return live if live and live["metadata"]["uid"] == job["metadata"]["uid"] else None

    async def _run(self, job: Manifest) -> None:
        started = datetime.now(UTC)
        try:
            if queue_of(job):  # there is no queue here: it is admitted at once
                await self._api.merge(
                    JOB, self._namespace, job["metadata"]["name"], {"spec": {"suspend": False}}
                )
            # One process does what the cluster's pods would do together: all of them are ready with it.
            pods = job["spec"].get("completions", 1)
            await self._write_status(job, {"startTime": _spelled(started), "active": pods, "ready": pods})
            async with asyncio.timeout(job["spec"].get("activeDeadlineSeconds")):
                await self._run_pods(job)
        except TimeoutError:
            message = "Job was active longer than specified deadline"
            await self._conclude(job, Conclusion("Failed", reason="DeadlineExceeded", message=message))
        finally:
            self._pod_folder = None
            self.changed.set()

    async def _run_pods(self, job: Manifest) -> None:
        while True:
            ended = await self._run_pod(job)
            live = await self._live(job)
            if live is None:
                return
            conclusion = concluded(live, ended)
            await self._conclude(live, conclusion)
            if conclusion.next != "Retry":
                return
            await asyncio.sleep(conclusion.wait_seconds)

    async def _run_pod(self, job: Manifest) -> Ended:
        pod = await self._create_pod(job)
        name = pod["metadata"]["name"]
        folder = self._api.state / "jobs" / name
        folder.mkdir(parents=True)
        self._pod_folder = folder
        self.changed.set()
        template = job["spec"]["template"]["spec"]
        container = next(item for item in template["containers"] if item["name"] == "worker")
        try:
            with self._argv(job, folder) as argv:
                code = await self._worker.run(
                    argv,
                    folder / "log",
                    _environment(container) | self._secrets.environment(container),
                    template.get("terminationGracePeriodSeconds", _GRACE_SECONDS),
                )
        except asyncio.CancelledError:
            await self._end_pod(pod, Ended(name, 143, disrupted=self._stopping), "")
            raise
        ended = Ended(name, code)
        await self._end_pod(pod, ended, _termination_message(folder, container, code))
        return ended

    @contextmanager
    def _argv(self, job: Manifest, folder: Path) -> Iterator[list[str]]:
        text = job["spec"]["template"]["metadata"]["annotations"][names.ANNOTATION_STAGE_CONFIG]
        config = StageConfig.from_wire(json.loads(text))
        (folder / "stage.json").write_text(text, encoding="utf-8")
        claims = uris.claims_of(item.uri for item in config.inputs.values())
        output = self._claims.path(config.output)
        output.mkdir(parents=True, exist_ok=True)
        argv = [config.stage.value, "--config", str(folder / "stage.json"), "--output", str(output)]
        argv += ["--report", str(folder / "report"), "--progress", str(folder / "progress.json")]
        for claim in claims:
            argv += ["--claim", f"{claim}={self._claims.folder(claim)}"]
        if config.stage is not Stage.PROMOTE or config.signature is None:
            yield argv
            return
        with self._secrets.file(config.signature.private_key_secret_ref) as key:
            yield [*argv, *(("--signing-key", key) if key else ())]

    async def _create_pod(self, job: Manifest) -> Manifest:
        metadata, template = job["metadata"], job["spec"]["template"]
        owned = {
            "batch.kubernetes.io/job-name": metadata["name"],
            "batch.kubernetes.io/controller-uid": metadata["uid"],
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{metadata['name'][:57]}-{random_tokens.token_hex(3)[:5]}",
                "namespace": self._namespace,
                "labels": {**template["metadata"].get("labels", {}), **owned, "job-name": metadata["name"]},
                "ownerReferences": [
                    {
                        "apiVersion": "batch/v1",
                        "kind": "Job",
                        "name": metadata["name"],
                        "uid": metadata["uid"],
                        "controller": True,
                    }
                ],
            },
            "spec": template["spec"],
            "status": _running_status(_spelled(datetime.now(UTC))),
        }
        return await self._api.create(POD, pod)

    async def _end_pod(self, pod: Manifest, ended: Ended, message: str) -> None:
        live = await self._api.get(POD, self._namespace, pod["metadata"]["name"])
        if live is not None and live["metadata"]["uid"] == pod["metadata"]["uid"]:
            live["status"] = _ended_status(live["status"], ended, message, _spelled(datetime.now(UTC)))
            await self._api.replace_status(POD, live)

    async def _conclude(self, job: Manifest, conclusion: Conclusion) -> None:
        live = await self._live(job)
        if live is None:
            return
        now = _spelled(datetime.now(UTC))
        status: dict[str, Any] = {"failed": live.get("status", {}).get("failed", 0) + conclusion.counted}
        match conclusion.next:
            case "Complete":
                status |= {"active": 0, "ready": 0, "succeeded": 1, "completionTime": now}
                status["conditions"] = _conditions("SuccessCriteriaMet", "Complete", conclusion, now)
            case "Failed":
                status |= {
                    "active": 0,
                    "ready": 0,
                    "conditions": _conditions("FailureTarget", "Failed", conclusion, now),
                }
        await self._write_status(live, status)
        self.changed.set()

    async def _write_status(self, job: Manifest, status: Manifest) -> None:
        live = await self._live(job)
        if live is not None:
            live["status"] = {**live.get("status", {}), **status}
            await self._api.replace_status(JOB, live)

    async def _expire(self) -> None:
        now = datetime.now(UTC)
        for job in await self._api.list(JOB, self._namespace, {}):
            ttl = job["spec"].get("ttlSecondsAfterFinished")
            finished = _finished(job)
            if (
                finished
                and ttl is not None
                and datetime.fromisoformat(finished) + timedelta(seconds=ttl) <= now
            ):
                await self._api.delete(JOB, self._namespace, job["metadata"]["name"], job["metadata"]["uid"])
        kept = {pod["metadata"]["name"] for pod in await self._api.list(POD, self._namespace, {})}
        folder = self._api.state / "jobs"
        for left in folder.iterdir() if folder.is_dir() else ():
            if left.name not in kept:
                shutil.rmtree(left)


def _finished(job: Manifest) -> str:
    """When it ended; empty while it is active."""
    ends = (
        item for item in job.get("status", {}).get("conditions", []) if item["type"] in ("Complete", "Failed")
    )
    return next((item["lastTransitionTime"] for item in ends if item["status"] == "True"), "")


def _conditions(first: str, second: str, conclusion: Conclusion, now: str) -> list[Manifest]:
    common = {
        "status": "True",
        "reason": conclusion.reason,
        "message": conclusion.message,
        "lastProbeTime": now,
        "lastTransitionTime": now,
    }
    return [{"type": first, **common}, {"type": second, **common}]


def _running_status(now: str) -> Manifest:
    worker = {"name": "worker", "ready": True, "started": True, "restartCount": 0}
    return {
        "phase": "Running",
        "startTime": now,
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{**worker, "state": {"running": {"startedAt": now}}}],
    }


def _ended_status(status: Manifest, ended: Ended, message: str, now: str) -> Manifest:
    worker = dict(status["containerStatuses"][0])
    terminated = {
        "exitCode": ended.exit_code,
        "reason": "Completed" if ended.exit_code == 0 else "Error",
        "startedAt": worker["state"].get("running", {}).get("startedAt", now),
        "finishedAt": now,
    }
    if message:
        terminated["message"] = message
    conditions = list(status.get("conditions", []))
    if ended.disrupted:
        target = {
            "reason": "TerminationByKubelet",
            "message": "alignctl was stopped",
            "lastTransitionTime": now,
        }
        conditions.append({"type": "DisruptionTarget", "status": "True", **target})
    return {
        **status,
        "phase": "Succeeded" if ended.exit_code == 0 and not ended.disrupted else "Failed",
        "conditions": conditions,
        "containerStatuses": [
            {**worker, "ready": False, "started": False, "state": {"terminated": terminated}}
        ],
    }


def _termination_message(folder: Path, container: Manifest, code: int) -> str:
    with suppress(FileNotFoundError):
        said = (folder / "report").read_bytes()[:_REPORT_BYTES].decode(errors="replace")
        if said:
            return said
    if code != 0 and container.get("terminationMessagePolicy") == "FallbackToLogsOnError":
        with suppress(FileNotFoundError):
            return (folder / "log").read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
    return ""


def _environment(container: Manifest) -> dict[str, str]:
    return {
        item["name"]: item["value"]
        for item in container.get("env", [])
        if "value" in item and item["name"] not in _NOT_FOR_HERE
    }


def _spelled(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")

"""An A/A run without a cluster, in a folder of its own that is deleted with all that its stages made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignment_api import names
from alignment_api.gates import GateResult
from alignment_api.stage import Stage, StageReport, StageResult
from alignment_operator.api import JOB, POD, Manifest
from alignment_operator.local.claims import Claims
from alignment_operator.local.directory import Directory
from alignment_operator.local.jobs import Node, StageProgress
from alignment_operator.local.run import SETTINGS, InterruptedRunError, interruptible
from alignment_operator.local.secrets import Secrets
from alignment_operator.local.worker import WarmWorker
from alignment_operator.plan.iteration import settled_pods
from alignment_operator.plan.noise import Noise
from alignment_operator.planned import StartJob
from alignment_operator.render import render_job

_TICK_SECONDS = 0.25

Watch = Callable[[Stage, StageProgress | None], None]


class StageFailedError(Exception):
    """A stage failed; the message says which, and why."""


async def measure(
    noise: Noise, claims: Claims, secrets: Secrets, folder: Path, watch: Watch
) -> tuple[GateResult, ...]:
    """What the gates say. `folder`: the one of `noise.output`.

    Raises StageFailedError, InterruptedRunError, WorkerError, OSError.
    """
    worker = WarmWorker(folder / "worker.log")
    api = Directory(folder / "state")
    node = Node(api, noise.owner.namespace, noise.owner.uid, worker, claims, secrets)
    results: dict[Stage, StageResult] = {}
    try:
        with interruptible(worker.kill):
            for stage in noise.stages:
                results[stage] = await _ran(noise, stage, results, api, node, watch)
    except asyncio.CancelledError:
        raise InterruptedRunError from None
    finally:
        await node.stop()
        await worker.close()
    return noise.verdicts(results)


async def _ran(
    noise: Noise,
    stage: Stage,
    results: dict[Stage, StageResult],
    api: Directory,
    node: Node,
    watch: Watch,
) -> StageResult:
    config = noise.config(stage, results)
    hash_ = names.stage_hash(config.owner_uid, config.to_wire())
    name = names.job_name(noise.owner.name, config.iteration, stage.value, 0, hash_)
    start = StartJob(name, hash_, config, 0, settled_pods(noise.spec, stage))
    await api.create(JOB, render_job(noise.owner, start, SETTINGS))
    watch(stage, None)
    while True:
        await node.sync()
        job = await api.get(JOB, noise.owner.namespace, name)
        assert job is not None
        if _ended(job):
            break
        node.changed.clear()
        try:
            await asyncio.wait_for(node.changed.wait(), _TICK_SECONDS)
        except TimeoutError:
            watch(stage, node.progress())
    report = _said(await api.list(POD, noise.owner.namespace, {"job-name": name}))
    if report is not None and report.result is not None:
        return report.result
    failure = report.failure if report else None
    why = f"{failure.reason}: {failure.message}" if failure else _ended(job)
    raise StageFailedError(f"stage {stage.value} failed: {why}")


def _ended(job: Manifest) -> str:
    """How; empty while it runs."""
    ends = (
        item for item in job.get("status", {}).get("conditions", []) if item["type"] in ("Complete", "Failed")
    )
    return next((f"{item['reason']}: {item['message']}" for item in ends if item["status"] == "True"), "")


def _said(pods: list[Manifest]) -> StageReport | None:
    """By the newest pod that said anything that can be read."""
    found: list[tuple[str, dict[str, Any]]] = []
    for pod in pods:
        for container in pod["status"].get("containerStatuses", []):
            ended = container["state"].get("terminated")
            if ended:
                found.append((ended["finishedAt"], ended))
    for _, ended in sorted(found, key=lambda each: each[0], reverse=True):
        try:
            return StageReport.decode(ended.get("message", ""))
        except ValueError:
            continue
    return None

"""The Jobs of an owner and what became of their pods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from alignment_api import names
from alignment_api.cycle_status import StageStatus
from alignment_api.stage import Stage
from alignment_operator.api import JOB, POD, Api, Manifest
from alignment_operator.observed import JobState, JobView, Owner, PodView
from alignment_operator.render.job import WORKER

JobSource = Callable[[str, str], Sequence[Manifest]]
"""(namespace, UID of the owner) → its Jobs as `slim` leaves them. It may be behind the API server."""

LABEL_POD_OF = "batch.kubernetes.io/controller-uid"  # the Job controller sets it to the Job's UID
_KEPT_LABELS = (
    names.LABEL_OWNER_UID,
    names.LABEL_CYCLE,
    names.LABEL_DATASET,
    names.LABEL_ITERATION,
    names.LABEL_STAGE,
    names.LABEL_ATTEMPT,
)


def slim(job: Manifest) -> Manifest:
    """What a pass needs of a Job: a hundredth of it, for a cache of thousands."""
    metadata, spec, status = job["metadata"], job.get("spec", {}), job.get("status", {})
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    kept: Manifest = {
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "creationTimestamp": metadata["creationTimestamp"],
            "labels": {key: labels[key] for key in _KEPT_LABELS if key in labels},
            "annotations": {
                key: annotations[key] for key in (names.ANNOTATION_STAGE_HASH,) if key in annotations
            },
        },
        "spec": {},
        "status": {key: status[key] for key in ("startTime", "active", "ready") if key in status},
    }
    if "deletionTimestamp" in metadata:
        kept["metadata"]["deletionTimestamp"] = metadata["deletionTimestamp"]
    if "ttlSecondsAfterFinished" in spec:
        kept["spec"]["ttlSecondsAfterFinished"] = spec["ttlSecondsAfterFinished"]
    if ended := _ended(job):
        kept["status"]["conditions"] = [ended]
    return kept


async def observe_jobs(
    api: Api, owner: Owner, stages: Iterable[StageStatus], source: JobSource | None
) -> tuple[JobView, ...]:
    """The owner's Jobs, oldest first; a Job that status names and the source lacks is looked up before it is gone."""
    if source is None:
        known = await api.list(JOB, owner.namespace, {names.LABEL_OWNER_UID: owner.uid})
    else:
        known = list(source(owner.namespace, owner.uid))
    seen = {job["metadata"]["name"] for job in known}
    missing = {stage.job for stage in stages if stage.job and not _settled(stage)} - seen
    found = await asyncio.gather(*(api.get(JOB, owner.namespace, name) for name in sorted(missing) if name))
    # What a settled stage's Job said is in status, and nobody asks for its pods any more.
    told = {stage.job for stage in stages if _settled(stage)}
    views = await asyncio.gather(
        *(
            _view(api, job, pods=job["metadata"]["name"] not in told)
            for job in [*known, *(job for job in found if job)]
        )
    )
    ours = (view for view in views if view is not None)
    return tuple(sorted(ours, key=lambda view: (view.created_at, view.name)))


def _settled(stage: StageStatus) -> bool:
    return stage.state in {"Succeeded", "Failed"}


async def _view(api: Api, job: Manifest, *, pods: bool) -> JobView | None:
    """None for a Job whose labels somebody broke: it is not one that we know."""
    metadata = job["metadata"]
    labels = metadata.get("labels") or {}
    try:
        stage = Stage(labels[names.LABEL_STAGE])
        iteration, attempt = int(labels[names.LABEL_ITERATION]), int(labels[names.LABEL_ATTEMPT])
    except (KeyError, ValueError):
        return None
    ended = _ended(job) or {}
    state = {"Complete": JobState.SUCCEEDED, "Failed": JobState.FAILED}.get(
        ended.get("type", ""), JobState.ACTIVE
    )
    return JobView(
        name=metadata["name"],
        uid=metadata["uid"],
        stage=stage,
        iteration=iteration,
        attempt=attempt,
        hash=(metadata.get("annotations") or {}).get(names.ANNOTATION_STAGE_HASH, ""),
        state=state,
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
        failure=ended.get("reason", "") if state is JobState.FAILED else "",
        message=ended.get("message", "") if state is JobState.FAILED else "",
        deleting="deletionTimestamp" in metadata,
        ttl_set=job.get("spec", {}).get("ttlSecondsAfterFinished") is not None,
        pod=await _newest_pod(api, job, state) if pods else None,
    )


def _ended(job: Manifest) -> dict[str, Any] | None:
    """The condition Complete or Failed. Before it (SuccessCriteriaMet, FailureTarget) pods may still run."""
    conditions: list[dict[str, Any]] = job.get("status", {}).get("conditions") or []
    return next(
        (each for each in conditions if each["type"] in {"Complete", "Failed"} and each["status"] == "True"),
        None,
    )


async def _newest_pod(api: Api, job: Manifest, state: JobState) -> PodView | None:
    metadata, status = job["metadata"], job.get("status", {})
    if state is JobState.ACTIVE and status.get("ready"):
        return PodView(started=True)
    pods = await api.list(POD, metadata["namespace"], {LABEL_POD_OF: metadata["uid"]})
    if pods:
        return pod_view(max(pods, key=lambda pod: _rank(pod, state)))
    if state is JobState.ACTIVE and "startTime" in status and not status.get("active"):
        hint = f"no pod could be made: `kubectl describe job {metadata['name']}` says why"
        return PodView(pending=hint)
    return None


def _rank(pod: Manifest, state: JobState) -> tuple[bool, str]:
    """Of two pods at once, the one that succeeded is the one that the Job counted."""
    won = state is JobState.SUCCEEDED and pod.get("status", {}).get("phase") == "Succeeded"
    return won, pod["metadata"].get("creationTimestamp", "")


def pod_view(pod: Manifest) -> PodView:
    """A pod of a Job of ours as the plan sees it."""
    status = pod.get("status", {})
    conditions = {each["type"]: each for each in status.get("conditions") or []}
    worker: dict[str, Any] = next(
        (each for each in status.get("containerStatuses") or [] if each["name"] == WORKER), {}
    )
    state = worker.get("state") or {}
    ended = state.get("terminated") or {}
    started = "running" in state or bool(ended)
    return PodView(
        exit_code=ended.get("exitCode"),
        report=ended.get("message") or "",
        started=started,
        disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        pending="" if started else _why_pending(conditions, state.get("waiting") or {}),
    )


def _why_pending(conditions: dict[str, Any], waiting: dict[str, Any]) -> str:
    """The scheduler's words while there is no node, then kubelet's."""
    scheduled = conditions.get("PodScheduled", {})
    cause = scheduled if scheduled.get("status") == "False" else waiting
    return ": ".join(part for part in (cause.get("reason"), cause.get("message")) if part)

"""The Jobs of an owner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from alignment_api import names
from alignment_api.cycle_status import StageStatus
from alignment_api.stage import Stage
from alignment_operator.api import JOB, POD, Api, Manifest
from alignment_operator.observe import pods, queue
from alignment_operator.observe.objects import controlled_by
from alignment_operator.observed import JobState, JobView, Owner, PodView

JobSource = Callable[[str, str], Sequence[Manifest]]
"""(namespace, UID of the owner) → its Jobs as `slim` leaves them. It may be behind the API server.

A Job may carry `progress`, a StageProgress, where its workers were asked.
"""

LABEL_POD_OF = "batch.kubernetes.io/controller-uid"  # the Job controller sets it to the Job's UID
_KEPT_LABELS = (
    names.LABEL_OWNER_UID,
    names.LABEL_CYCLE,
    names.LABEL_DATASET,
    names.LABEL_ITERATION,
    names.LABEL_STAGE,
    names.LABEL_ATTEMPT,
    names.LABEL_QUEUE,
)
_KEPT_SPEC = ("suspend", "ttlSecondsAfterFinished", "completionMode", "completions", "backoffLimitPerIndex")
_KEPT_STATUS = ("startTime", "active", "ready", "terminating", "failed")


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
            "ownerReferences": [
                {"uid": each["uid"], "controller": True}
                for each in metadata.get("ownerReferences") or []
                if each.get("controller")
            ],
            "labels": {key: labels[key] for key in _KEPT_LABELS if key in labels},
            "annotations": {
                key: annotations[key] for key in (names.ANNOTATION_STAGE_HASH,) if key in annotations
            },
        },
        "spec": {key: spec[key] for key in _KEPT_SPEC if key in spec},
        "status": {key: status[key] for key in _KEPT_STATUS if key in status},
    }
    if "deletionTimestamp" in metadata:
        kept["metadata"]["deletionTimestamp"] = metadata["deletionTimestamp"]
    if ended := _ended(job):
        kept["status"]["conditions"] = [ended]
    return kept


def is_starting(job: Manifest) -> bool:
    """Whether it has not been stopped, and none of its pods has run or failed so far; of a slim Job."""
    status = job["status"]
    stopped = "deletionTimestamp" in job["metadata"] or job["spec"].get("suspend") or "conditions" in status
    return not (stopped or status.get("ready") or status.get("failed"))


def is_computing(job: Manifest) -> bool:
    """Whether pods of it run; of a slim Job."""
    return bool(job["status"].get("ready")) and "conditions" not in job["status"]


def without_ttl(job: Manifest) -> Manifest:
    """All of a slim Job but how long it stays after its end."""
    spec = {key: value for key, value in job["spec"].items() if key != "ttlSecondsAfterFinished"}
    return {**job, "spec": spec}


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
            _view(api, job, ask=job["metadata"]["name"] not in told)
            for job in [*known, *(job for job in found if job)]
            if controlled_by(job, owner.uid)  # anybody may give a Job our labels
        )
    )
    ours = (view for view in views if view is not None)
    return tuple(sorted(ours, key=lambda view: (view.created_at, view.name)))


def _settled(stage: StageStatus) -> bool:
    return stage.state in {"Succeeded", "Failed"}


async def _view(api: Api, job: Manifest, *, ask: bool) -> JobView | None:
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
    suspended = bool(job.get("spec", {}).get("suspend"))
    awaited = ask and state is JobState.ACTIVE
    workload = await queue.workload_of(api, job) if awaited and queue.queue_of(job) else None
    pod = None
    if awaited and suspended:
        pod = await _waiting(api, job, workload)
    elif ask:
        pod = await _pod(api, job, state)
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
        suspended=suspended,
        held=queue.is_held(workload),
        held_by_us=queue.is_held_by_us(workload),
        queue=queue.queue_of(job),
        ttl_set=job.get("spec", {}).get("ttlSecondsAfterFinished") is not None,
        failures=_failures(job, state),
        progress=job.get("progress"),
        pod=pod,
    )


def _failures(job: Manifest, state: JobState) -> int:
    """Pods that were, or are being, replaced: not the last one of a Job that failed, and none of a gang."""
    if pods.layout_of(job) is pods.Layout.GANG:
        return 0
    failed: int = job.get("status", {}).get("failed") or 0
    return max(0, failed - (state is JobState.FAILED))


def _ended(job: Manifest) -> dict[str, Any] | None:
    """The condition Complete or Failed. Before it (SuccessCriteriaMet, FailureTarget) pods may still run."""
    conditions: list[dict[str, Any]] = job.get("status", {}).get("conditions") or []
    return next(
        (each for each in conditions if each["type"] in {"Complete", "Failed"} and each["status"] == "True"),
        None,
    )


async def _waiting(api: Api, job: Manifest, workload: Manifest | None) -> PodView:
    """Of a suspended Job, whose pods are on their way out or gone."""
    left = pods.view_of(job, await _pods(api, job), JobState.ACTIVE)
    return PodView(pending=queue.why_suspended(job, workload), gone_by=left.gone_by if left else None)


async def _pods(api: Api, job: Manifest) -> list[Manifest]:
    metadata = job["metadata"]
    return await api.list(POD, metadata["namespace"], {LABEL_POD_OF: metadata["uid"]})


async def _pod(api: Api, job: Manifest, state: JobState) -> PodView | None:
    metadata, status = job["metadata"], job.get("status", {})
    if state is JobState.ACTIVE and pods.computing(job):
        return PodView(started=True)
    if view := pods.view_of(job, await _pods(api, job), state):
        return view
    if state is JobState.ACTIVE and "startTime" in status and not status.get("active"):
        # They outlive the Job, which is deleted when the wait was in vain.
        where = f"-n {metadata['namespace']} --field-selector involvedObject.name={metadata['name']}"
        return PodView(pending=f"no pod could be made: `kubectl get events {where}` says why")
    return None

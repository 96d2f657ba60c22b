"""`spec.suspend`: what runs is suspended, and nothing new starts. Live at once, and undone without loss."""

from __future__ import annotations

from collections.abc import Iterable

from alignment_api.conditions import ConditionType, Reason, find
from alignment_api.cycle_status import StageStatus
from alignment_operator.observed import JobState, JobView, ObservedCycle, ObservedDataset
from alignment_operator.planned import Event, HoldJob, SuspendJob

_MESSAGE = "spec.suspend is true"

Observed = ObservedCycle | ObservedDataset


def holds(observed: Observed) -> bool:
    """A spec that cannot be read changes nothing."""
    if observed.spec is not None:
        return observed.spec.suspend
    return _held_before(observed)


def follow(observed: Observed) -> tuple[SuspendJob | HoldJob, ...]:
    """Jobs that are suspended, or not, against what the spec says.

    The one place that decides it. A Job in a queue is Kueue's to suspend and to resume, by its Workload. One that
    somebody else has taken out of the queue stays out. Who did it is told by the Workload, not by our status: it may
    have been resumed while nobody was there to write that it was suspended.
    """
    wanted = holds(observed)
    actions: list[SuspendJob | HoldJob] = []
    for job in observed.jobs:
        if job.state is not JobState.ACTIVE or job.deleting:
            continue
        if not job.queue and job.suspended != wanted:
            actions.append(SuspendJob(job.name, job.uid, suspend=wanted))
        elif job.queue and (not job.held if wanted else job.held_by_us):
            actions.append(HoldJob(job.name, job.uid, hold=wanted))
    return tuple(actions)


def condition(observed: Observed) -> tuple[bool, Reason, str]:
    """Of the type Suspended: whether it holds, why, and what people read."""
    if holds(observed):
        return True, Reason.SUSPENDED, f"{_MESSAGE}: nothing starts, and the running stage's Job is suspended"
    return False, Reason.NOT_SUSPENDED, "spec.suspend is false"


def paused(entry: StageStatus, jobs: Iterable[JobView]) -> StageStatus | None:
    """The stage while it is suspended: no deadline runs. None if its Job has ended, which is taken note of as ever."""
    job = next((job for job in jobs if job.name == entry.job and job.uid == entry.job_uid), None)
    if job is not None and job.state is not JobState.ACTIVE:
        return None
    waiting = {
        "state": "Pending",
        "reason": str(Reason.SUSPENDED),
        "message": _MESSAGE,
        "pending_since": None,
        "progress": None,
    }
    return entry.model_copy(update=waiting)


def resumed(entry: StageStatus) -> StageStatus:
    """The stage as it is when nothing holds it any more."""
    if entry.reason != Reason.SUSPENDED:
        return entry
    return entry.model_copy(update={"reason": None, "message": None})


def events(observed: Observed) -> tuple[Event, ...]:
    """Told in the pass that changes the condition."""
    now_held = holds(observed)
    if now_held == _held_before(observed):
        return ()
    return (Event("Suspended", _MESSAGE),) if now_held else (Event("Resumed", "spec.suspend is false"),)


def _held_before(observed: Observed) -> bool:
    condition = find(observed.status.conditions, ConditionType.SUSPENDED)
    return condition is not None and condition.status == "True"

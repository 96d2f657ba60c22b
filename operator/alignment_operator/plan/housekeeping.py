"""Jobs that nothing waits for: finished ones get a TTL, stray live ones are deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from alignment_api.cycle_status import StageStatus
from alignment_api.stage import Stage
from alignment_operator.observed import JobState, JobView
from alignment_operator.planned import Action, DeleteJob, ExpireJob


def tidy(
    jobs: Iterable[JobView],
    current: StageStatus | None,
    iteration: int,
    expected: tuple[str, int] | None,
    ttl_seconds: Callable[[Stage], int],
) -> tuple[Action, ...]:
    """`current` is the stage that still waits for its Job, if any; `expected` the hash and attempt it would adopt."""
    actions: list[Action] = []
    for job in jobs:
        if job.deleting or _awaited(job, current, iteration, expected):
            continue
        if job.state == JobState.ACTIVE:
            actions.append(DeleteJob(job.name, job.uid))
        elif not job.ttl_set:
            actions.append(ExpireJob(job.name, job.uid, ttl_seconds(job.stage)))
    return tuple(actions)


def _awaited(
    job: JobView, current: StageStatus | None, iteration: int, expected: tuple[str, int] | None
) -> bool:
    if current is None or job.stage != current.name or job.iteration != iteration:
        return False
    if current.job is not None:
        return job.name == current.job and job.uid == current.job_uid
    return (job.hash, job.attempt) == expected

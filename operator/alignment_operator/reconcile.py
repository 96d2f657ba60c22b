"""One pass: observe everything, plan from it, apply the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import ValidationError

from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.dataset import PreferenceDatasetStatus
from alignment_operator import apply
from alignment_operator.api import CYCLE, DATASET, Api, Kind, Manifest
from alignment_operator.observe import Known, UnreadableError, observe_cycle, observe_dataset
from alignment_operator.observed import JobState, JobView, Owner, Settings
from alignment_operator.plan import cycle, dataset

_REFUSED_AGAIN = timedelta(seconds=30)
_LOOK_AGAIN = timedelta(seconds=5)
_LOOK_AGAIN_AT_LEAST_EVERY = timedelta(minutes=5)


Seen = TypeVar("Seen")
Decided = TypeVar("Decided")

Change = (
    tuple[AlignmentCycleStatus, AlignmentCycleStatus]
    | tuple[PreferenceDatasetStatus, PreferenceDatasetStatus]
)
"""A status before and after it was written."""


@dataclass(frozen=True)
class Pass:
    """What came of a pass.

    `wake_at`: when to look again though nothing changed; None: only on change.
    `latest`: the object as the status write left it, None if there was none. What a watch says of it is no news.
    """

    wake_at: datetime | None = None
    latest: Manifest | None = None
    gone: bool = False
    change: Change | None = None
    told: tuple[str, ...] = ()  # reasons of the events that went with the change
    runs: bool = False  # as CyclePlan has it
    waits_for_turn: bool = False

    @property
    def written(self) -> str | None:
        """The resourceVersion of the status write."""
        return str(self.latest["metadata"]["resourceVersion"]) if self.latest else None


async def one_pass(
    api: Api,
    kind: Kind,
    namespace: str,
    name: str,
    now: datetime,
    settings: Settings,
    known: Known | None = None,
) -> Pass:
    """Raises ConflictError if somebody wrote meanwhile (do it again), UnreadableError, and what `apply` raises."""
    try:
        return await _pass(api, kind, namespace, name, now, settings, known)
    except UnreadableError as error:
        await api.emit(error.manifest, "Unreadable", str(error), warning=True, about="status")
        raise


async def _pass(
    api: Api,
    kind: Kind,
    namespace: str,
    name: str,
    now: datetime,
    settings: Settings,
    known: Known | None,
) -> Pass:
    if kind == CYCLE:
        seen_cycle = await observe_cycle(api, namespace, name, settings, known)
        if seen_cycle is None:
            return Pass(gone=True)
        cycle_plan = _planned(cycle.plan, seen_cycle, seen_cycle.owner, kind, now)
        applied = await apply.apply_cycle(api, seen_cycle, cycle_plan)
        outcome = _outcome(cycle_plan.wake_at, applied, seen_cycle.jobs, now)
        told = tuple(str(event.reason) for event in cycle_plan.events)
        change = (seen_cycle.status, applied.status) if applied.status else None
        return replace(
            outcome,
            change=change,
            told=told,
            runs=cycle_plan.runs,
            waits_for_turn=cycle_plan.waits_for_turn,
        )
    if kind == DATASET:
        seen_dataset = await observe_dataset(api, namespace, name, settings, known)
        if seen_dataset is None:
            return Pass(gone=True)
        dataset_plan = _planned(dataset.plan, seen_dataset, seen_dataset.owner, kind, now)
        ingested = await apply.apply_dataset(api, seen_dataset, dataset_plan)
        outcome = _outcome(dataset_plan.wake_at, ingested, seen_dataset.jobs, now)
        return replace(outcome, change=(seen_dataset.status, ingested.status) if ingested.status else None)
    raise ValueError(f"{kind.kind} is not a kind that is reconciled")


def _planned(
    plan: Callable[[Seen, datetime], Decided], seen: Seen, owner: Owner, kind: Kind, now: datetime
) -> Decided:
    """Raises UnreadableError if the status contradicts itself, as only somebody's edit of it can."""
    try:
        return plan(seen, now)
    except (KeyError, AssertionError, ValidationError) as error:
        manifest = {
            "apiVersion": kind.api_version,
            "kind": kind.kind,
            "metadata": {"name": owner.name, "namespace": owner.namespace, "uid": owner.uid},
        }
        message = (
            f"status contradicts itself ({type(error).__name__}: {error}): somebody edited it, or the "
            "operator has a defect. Restore it, or end what runs: annotate alignment.dev/cancel=NUMBER"
        )
        raise UnreadableError(message[:1000], manifest) from error


def _outcome(
    wake_at: datetime | None,
    applied: apply.Applied[AlignmentCycleStatus] | apply.Applied[PreferenceDatasetStatus],
    jobs: Iterable[JobView],
    now: datetime,
) -> Pass:
    refused = now + _REFUSED_AGAIN if applied.refused else None
    wakes = [wake_at, now if applied.unseen else None, refused, *(_look_again(job, now) for job in jobs)]
    return Pass(min((wake for wake in wakes if wake), default=None), applied.latest)


def _look_again(job: JobView, now: datetime) -> datetime | None:
    """Why a pod does not start shows in the pod alone, which is not watched: looked at ever more seldom."""
    if job.state is not JobState.ACTIVE or job.deleting or (job.pod and job.pod.started):
        return None
    if job.suspended and not job.queue:  # it starts when somebody says so, and that is watched
        return None
    return now + min(max(now - job.created_at, _LOOK_AGAIN), _LOOK_AGAIN_AT_LEAST_EVERY)

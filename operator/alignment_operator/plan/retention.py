"""What of the past is kept: checkpoints in the store, by the stage `collect`, and ControllerRevisions.

Which iterations stay is decided here, from status; the worker deletes the others, and nothing else does. A running
iteration is newer than all that `collect` looks at, and what it started from is the promoted one, which stays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from alignment_api import names
from alignment_api.cycle import AlignmentCycleSpec, History
from alignment_api.cycle_status import AlignmentCycleStatus, Collection, Promoted, StageStatus
from alignment_api.stage import CollectParameters, KeptIterations, Stage, StageConfig
from alignment_operator.observed import JobView, ObservedCycle
from alignment_operator.plan import housekeeping, iteration, stage, suspension
from alignment_operator.plan.dataset import with_image
from alignment_operator.planned import Action, DeleteRevision, Event

SPARE_REVISIONS = 3  # what a lost status is told from


@dataclass(frozen=True)
class Retained:
    """The status with its collection, and what is done for it."""

    status: AlignmentCycleStatus
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    wake_at: datetime | None = None


def retain(observed: ObservedCycle, status: AlignmentCycleStatus, now: datetime) -> Retained:
    """`status` is what the rest of the plan made. Not to be called without a spec, or with the record lost."""
    assert observed.spec is not None
    if suspension.holds(observed):
        return Retained(_paused(status, observed.jobs))
    status = _due(status, observed.spec.history)
    collection = status.collection
    jobs = [job for job in observed.jobs if job.stage == Stage.COLLECT]
    pods = with_image(iteration.settled_pods(observed.spec, Stage.COLLECT), observed.settings)

    def tidied(
        current: StageStatus | None, number: int, expected: tuple[str, int] | None
    ) -> tuple[Action, ...]:
        return housekeeping.tidy(jobs, current, number, expected, lambda _: pods.ttl_seconds_after_finished)

    if collection is None or not _running(collection):
        number = collection.iteration if collection else 0
        return Retained(status, (*tidied(None, number, None), *_old_revisions(observed)))
    config = _config(observed, observed.spec, collection)
    progress = stage.advance(
        suspension.resumed(collection.stage),
        config,
        observed.owner.name,
        jobs,
        pods,
        now,
        wait_for_inputs=False,
    )
    expected = (names.stage_hash(config.owner_uid, config.to_wire()), collection.stage.attempt)
    after = collection.model_copy(update={"stage": progress.status})
    return Retained(
        status=status.model_copy(update={"collection": after}),
        actions=(
            *progress.actions,
            *tidied(collection.stage, collection.iteration, expected),
            *_old_revisions(observed),
        ),
        events=_events(after),
        wake_at=progress.wake_at,
    )


def _paused(status: AlignmentCycleStatus, jobs: Iterable[JobView]) -> AlignmentCycleStatus:
    collection = status.collection
    if collection is None or not _running(collection):
        return status
    paused = suspension.paused(collection.stage, jobs)
    return status.model_copy(
        update={"collection": collection.model_copy(update={"stage": paused or collection.stage})}
    )


def kept(status: AlignmentCycleStatus, history: History) -> list[int]:
    """Iterations whose artifacts stay: promoted ones, that a rollback can go to, and the last that were not."""
    promoted = [promotion.iteration for promotion in _promotions(status, history)]
    others = [row.number for row in status.history if row.outcome != "Promoted"]
    return sorted({number for number in (*promoted, *others[: history.keep_candidates]) if number > 0})


def _promotions(status: AlignmentCycleStatus, history: History) -> list[Promoted]:
    there = [promotion for promotion in (status.promoted, *status.promotions) if promotion]
    return there[: history.keep_promoted]


def _running(collection: Collection) -> bool:
    return collection.stage.state in {"Pending", "Running"}


def _due(status: AlignmentCycleStatus, history: History) -> AlignmentCycleStatus:
    """The status with a collection begun, if an iteration ended and something is there that need not stay."""
    ended = max((row.number for row in status.history), default=0)
    before = status.collection
    if before and (_running(before) or before.iteration >= ended):
        return status
    stay = kept(status, history)
    newer = range(before.iteration + 1 if before else 1, ended + 1)
    if len(newer) <= len(stay) and set(stay).issuperset([*(before.kept if before else ()), *newer]):
        return status
    begun = Collection(iteration=ended, kept=stay, stage=StageStatus(name=Stage.COLLECT, state="Pending"))
    return status.model_copy(update={"collection": begun})


def _config(observed: ObservedCycle, spec: AlignmentCycleSpec, collection: Collection) -> StageConfig:
    owner = observed.owner
    prefix = names.cycle_prefix(spec.store.uri, owner.namespace, owner.name, owner.uid)
    return StageConfig(
        stage=Stage.COLLECT,
        owner_uid=owner.uid,
        iteration=collection.iteration,
        output=names.stage_prefix(prefix, collection.iteration, Stage.COLLECT.value),
        inputs={},
        parameters=CollectParameters(
            iterations=KeptIterations(
                cycle_prefix=prefix, kept=collection.kept, keep_promoted=spec.history.keep_promoted
            )
        ),
        seed=0,
    )


def _events(collection: Collection) -> tuple[Event, ...]:
    entry = collection.stage
    if entry.state == "Failed":
        return (Event("CollectFailed", f"artifacts were not deleted: {entry.message}", warning=True),)
    if entry.state == "Succeeded" and entry.result:
        gone = entry.result.counts.get("deleted", 0)
        return (Event("Collected", f"artifacts of {gone} iterations were deleted; kept: {collection.kept}"),)
    return ()


def _old_revisions(observed: ObservedCycle) -> tuple[DeleteRevision, ...]:
    """Those of iterations that are no longer in the history; seen only while no iteration runs."""
    assert observed.spec is not None
    keep = max(SPARE_REVISIONS, observed.spec.history.iterations)
    newest_first = sorted(observed.revisions, key=lambda revision: -revision.number)
    return tuple(DeleteRevision(revision.name, revision.uid) for revision in newest_first[keep:])

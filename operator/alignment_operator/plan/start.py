"""Starting an iteration: what it freezes."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from datetime import datetime

from alignment_api import names
from alignment_api.conditions import Reason
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import DatasetRevision, Iteration, StartedBy
from alignment_api.pods import PodDefaults
from alignment_api.stage import CONTRACT_VERSION, Located
from alignment_operator.observed import Frozen, ObservedCycle
from alignment_operator.plan import instants, tested
from alignment_operator.planned import CyclePlan, Event, Freeze


@dataclass(frozen=True)
class Cause:
    """What starts an iteration. `run` is the request that counts as handled then, `slot` that of a schedule."""

    trigger: StartedBy
    run: str
    slot: str = ""


def blocked_by(observed: ObservedCycle) -> tuple[Reason, str] | None:
    """Why no iteration can start now though one is asked for."""
    unready = [view for view in observed.datasets if view.revision is None]
    if unready:
        message = "; ".join(f"PreferenceDataset {view.name}: {view.message}" for view in unready)
        return Reason.DATASET_NOT_READY, message
    if not observed.has_turn:
        message = "an iteration is due and waits: as many run as --max-active-iterations of the operator lets"
        return Reason.WAITING_FOR_TURN, message
    return None


def start(observed: ObservedCycle, cause: Cause, now: datetime) -> CyclePlan:
    """Freeze the next iteration. Not to be called while one is running or `blocked_by` something."""
    frozen = _frozen(observed, cause, now)
    actions = () if observed.frozen.get(frozen.number) == frozen else (Freeze(frozen),)
    iteration = Iteration(
        number=frozen.number,
        trigger=frozen.trigger,
        generation=frozen.generation,
        revision=frozen.name,
        started_at=frozen.started_at or instants.spell(now),
        incumbent=frozen.incumbent,
        datasets=[DatasetRevision.from_wire(revision.to_wire()) for revision in frozen.datasets],
        level_percent=tested.level(frozen.spec, frozen.tested),
    )
    handled = {**observed.status.handled, **({"run": frozen.handled_run} if frozen.handled_run else {})}
    status = observed.status.model_copy(
        update={
            "iteration": iteration,
            "iterations": frozen.number,
            "handled": handled,
            "tested": frozen.tested,
        }
    )
    by = "" if frozen.trigger == "Manual" else f" by {frozen.trigger}"
    event = Event("IterationStarted", f"iteration {frozen.number} started{by}")
    return CyclePlan(actions, status, (event,), now)


def incumbent_of(observed: ObservedCycle) -> Located | None:
    """What is promoted; None is M_0."""
    promoted = observed.status.promoted
    if promoted:
        return Located(uri=promoted.uri, digest=promoted.digest)
    return None


def _frozen(observed: ObservedCycle, cause: Cause, now: datetime) -> Frozen:
    """What was frozen just before a crash is taken up again, else the next iteration.

    Its number is one more than any that this cycle ever used, so that no folder of the store is used twice.
    """
    assert observed.spec is not None
    status = observed.status
    used = status.iteration.number if status.iteration else 0
    last = max(observed.frozen, default=0)
    wanted = Frozen(
        name=names.revision_name(observed.owner.name, last),
        number=last,
        trigger=cause.trigger,
        slot=cause.slot,
        started_at=instants.spell(now),
        handled_run=cause.run,
        generation=observed.owner.generation,
        spec=_settled(observed.spec, observed.settings.worker_image),
        incumbent=incumbent_of(observed),
        datasets=tuple(view.revision for view in observed.datasets if view.revision),
        contract_version=CONTRACT_VERSION,
        tested=tested.so_far(status, observed.frozen),
    )
    kept = {uri for view in observed.datasets for uri in view.kept}
    if last > used and _begun(observed.frozen[last], wanted, status.iterations or 0, kept):
        return observed.frozen[last]
    number = max(used, last, status.iterations or 0, *(job.iteration for job in observed.jobs)) + 1
    return replace(wanted, name=names.revision_name(observed.owner.name, number), number=number)


def _begun(there: Frozen, wanted: Frozen, counted: int, kept: Container[str]) -> bool:
    """Whether the last frozen iteration is the one that is asked for, and can work from what it froze.

    A request of a person is recognised by its value even when the status was lost; a trigger is not, so that nothing
    starts a second time.
    """
    if wanted.trigger == there.trigger == "Manual":
        return (
            there.handled_run == wanted.handled_run
            and there.incumbent == wanted.incumbent
            and all(revision.uri in kept for revision in there.datasets)
        )
    same = replace(wanted, started_at=there.started_at, tested=there.tested)
    return there.number > counted and same == there


def _settled(spec: AlignmentCycleSpec, worker_image: str) -> AlignmentCycleSpec:
    image = spec.defaults.image or worker_image
    return spec.model_copy(
        update={"defaults": PodDefaults.from_wire({**spec.defaults.to_wire(), "image": image})}
    )

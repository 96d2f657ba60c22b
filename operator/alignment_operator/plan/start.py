"""Starting an iteration: what it freezes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from alignment_api import names
from alignment_api.conditions import Reason
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import DatasetRevision, Iteration
from alignment_api.pods import PodDefaults
from alignment_api.stage import CONTRACT_VERSION, Located
from alignment_operator.observed import Frozen, ObservedCycle
from alignment_operator.plan import instants
from alignment_operator.planned import CyclePlan, Event, Freeze

_MANUAL: Literal["Manual"] = "Manual"


def blocked_by(observed: ObservedCycle) -> tuple[Reason, str] | None:
    """Why no iteration can start now though one is asked for."""
    unready = [view for view in observed.datasets if view.revision is None]
    if unready:
        message = "; ".join(f"PreferenceDataset {view.name}: {view.message}" for view in unready)
        return Reason.DATASET_NOT_READY, message
    return None


def start(observed: ObservedCycle, run: str, now: datetime) -> CyclePlan:
    """Freeze the next iteration. Not to be called while one is running or `blocked_by` something."""
    assert observed.spec is not None
    incumbent = incumbent_of(observed)
    number = _next_number(observed, run)
    frozen = observed.frozen.get(number)
    actions: tuple[Freeze, ...] = ()
    if frozen is None:
        frozen = Frozen(
            name=names.revision_name(observed.owner.name, number),
            number=number,
            trigger=_MANUAL,
            handled_run=run,
            generation=observed.owner.generation,
            spec=_settled(observed.spec, observed.settings.worker_image),
            incumbent=incumbent,
            datasets=tuple(view.revision for view in observed.datasets if view.revision),
            contract_version=CONTRACT_VERSION,
        )
        actions = (Freeze(frozen),)
    iteration = Iteration(
        number=number,
        trigger=_MANUAL,
        generation=frozen.generation,
        revision=frozen.name,
        started_at=instants.spell(now),
        incumbent=incumbent,
        datasets=[DatasetRevision.from_wire(revision.to_wire()) for revision in frozen.datasets],
    )
    status = observed.status.model_copy(
        update={"iteration": iteration, "handled": {**observed.status.handled, "run": frozen.handled_run}}
    )
    return CyclePlan(actions, status, (Event("IterationStarted", f"iteration {number} started"),), now)


def incumbent_of(observed: ObservedCycle) -> Located | None:
    """What is promoted; None is M_0."""
    promoted = observed.status.promoted
    if promoted:
        return Located(uri=promoted.uri, digest=promoted.digest)
    return None


def _next_number(observed: ObservedCycle, run: str) -> int:
    """One more than any number that this cycle ever used, so that no folder of the store is used twice.

    What was frozen for this very request, just before a crash or before the status was lost, is taken up again.
    """
    used = observed.status.iteration.number if observed.status.iteration else 0
    last = max(observed.frozen, default=0)
    if last > used:
        frozen = observed.frozen[last]
        if frozen.handled_run == run and frozen.incumbent == incumbent_of(observed):
            return last
    return max(used, last, *(job.iteration for job in observed.jobs)) + 1


def _settled(spec: AlignmentCycleSpec, worker_image: str) -> AlignmentCycleSpec:
    image = spec.defaults.image or worker_image
    return spec.model_copy(
        update={"defaults": PodDefaults.from_wire({**spec.defaults.to_wire(), "image": image})}
    )

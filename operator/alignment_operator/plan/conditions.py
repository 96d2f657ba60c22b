"""The conditions of a cycle, from everything else in its status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from alignment_api.conditions import ConditionType, Reason, updated
from alignment_api.cycle_status import AlignmentCycleStatus, Iteration, StageStatus
from alignment_operator.observed import ObservedCycle
from alignment_operator.plan import edits, instants, suspension
from alignment_operator.plan.iteration import waits_for_approval
from alignment_operator.plan.targets import TargetsState
from alignment_operator.plan.trigger import Outlook


@dataclass(frozen=True)
class Situation:
    """What the rest of the plan found out."""

    stalled: tuple[Reason, str] | None
    blocked: tuple[Reason, str] | None  # an iteration is asked for and cannot start yet
    targets: TargetsState | None
    outlook: Outlook | None  # None while it is stalled


def settle(
    observed: ObservedCycle, status: AlignmentCycleStatus, situation: Situation, now: datetime
) -> AlignmentCycleStatus:
    """The status with all its conditions and observedGeneration."""
    conditions = status.conditions
    iteration = status.iteration
    suspended = suspension.holds(observed)
    said: list[tuple[ConditionType, bool | None, str, str]] = [
        (ConditionType.READY, *_ready(iteration, situation, suspended=suspended)),
        (
            ConditionType.RECONCILING,
            False,
            Reason.OBSERVED,
            f"generation {observed.owner.generation} is observed",
        ),
        (ConditionType.STALLED, *_stalled(situation)),
        (ConditionType.ITERATING, *_iterating(observed, iteration, situation, suspended=suspended)),
        (ConditionType.PROMOTED, *_promoted(iteration)),
        (ConditionType.WAITING_FOR_APPROVAL, *_waiting(iteration)),
        (ConditionType.TARGETS_SYNCED, *_targets(situation)),
        (ConditionType.SUSPENDED, *suspension.condition(observed)),
    ]
    for type_, holds, reason, message in said:
        conditions = updated(
            conditions,
            type_,
            holds=holds,
            reason=str(reason),
            message=message,
            generation=observed.owner.generation,
            now=instants.spell(now),
        )
    return status.model_copy(
        update={"conditions": conditions, "observed_generation": observed.owner.generation}
    )


def _ready(iteration: Iteration | None, situation: Situation, *, suspended: bool) -> tuple[bool, str, str]:
    """A refused candidate is not unhealthy; a failed iteration and a stalled cycle are."""
    if situation.stalled:
        return False, *situation.stalled
    if iteration and iteration.outcome == "Failed":
        return False, Reason.ITERATION_FAILED, f"iteration {iteration.number}: {iteration.message}"
    if suspended:
        return True, Reason.SUSPENDED, "nothing starts until spec.suspend is false"
    if waits_for_approval(iteration):
        return True, Reason.WAITING_FOR_APPROVAL, "a person decides"
    if iteration and iteration.outcome is None:
        return True, Reason.ITERATING, f"iteration {iteration.number} is running"
    if situation.blocked:
        return situation.blocked[0] == Reason.WAITING_FOR_TURN, *situation.blocked
    assert situation.outlook is not None
    return True, Reason.IDLE, situation.outlook.waits_for


def _stalled(situation: Situation) -> tuple[bool, str, str]:
    if situation.stalled:
        return True, *situation.stalled
    return False, Reason.OBSERVED, "nothing is in the way"


def _iterating(
    observed: ObservedCycle, iteration: Iteration | None, situation: Situation, *, suspended: bool
) -> tuple[bool, str, str]:
    if iteration is None or iteration.outcome is not None:
        if situation.blocked:
            return False, *situation.blocked
        return False, Reason.IDLE, "no iteration is running"
    later = _later(observed, iteration)
    if waits_for_approval(iteration):
        return True, Reason.WAITING_FOR_APPROVAL, f"iteration {iteration.number} waits for a person{later}"
    where = f", stage {iteration.stage.value}" if iteration.stage else ""
    if suspended:
        return True, Reason.SUSPENDED, f"iteration {iteration.number}{where} is suspended{later}"
    if waits := _waiting_stage(iteration):
        reason, message = waits.reason or Reason.ITERATING, waits.message
        return True, reason, f"iteration {iteration.number}{where} waits: {message}{later}"[:4096]
    return True, Reason.ITERATING, f"iteration {iteration.number}{where}{later}"


def _waiting_stage(iteration: Iteration) -> StageStatus | None:
    """The stage that has not begun for a reason that can be told."""
    return next((entry for entry in iteration.stages if entry.state == "Pending" and entry.message), None)


def _later(observed: ObservedCycle, iteration: Iteration) -> str:
    """What of an edit the running iteration does not see; empty if nothing."""
    frozen = observed.frozen.get(iteration.number)
    if observed.spec is None or frozen is None:
        return ""
    fields = edits.waiting(frozen.spec, observed.spec)
    if not fields:
        return ""
    named = ", ".join(f"spec.{field}" for field in fields)
    return f"; {named} of generation {observed.owner.generation} applies from the next iteration"


def _promoted(iteration: Iteration | None) -> tuple[bool | None, str, str]:
    if iteration is None:
        return None, Reason.NO_ITERATION, "no iteration has run yet"
    if iteration.outcome is None:
        reason = Reason.WAITING_FOR_APPROVAL if waits_for_approval(iteration) else Reason.ITERATING
        return None, reason, f"iteration {iteration.number} is not decided"
    holds = iteration.outcome == "Promoted"
    return holds, iteration.reason or Reason.IDLE, f"iteration {iteration.number}: {iteration.message or ''}"


def _waiting(iteration: Iteration | None) -> tuple[bool, str, str]:
    if iteration is None or not waits_for_approval(iteration):
        return False, Reason.IDLE, "nothing waits for a person"
    digest = iteration.evidence_digest or ""
    message = (
        f"{iteration.message} To promote it, annotate alignment.dev/approve={iteration.number}@{digest[:19]}; "
        f"to refuse it, alignment.dev/reject={iteration.number}"
    )
    return True, iteration.reason or Reason.WAITING_FOR_APPROVAL, message


def _targets(situation: Situation) -> tuple[bool | None, str, str]:
    if situation.targets is None:
        assert situation.stalled is not None
        return None, *situation.stalled
    return situation.targets.synced, situation.targets.reason, situation.targets.message

"""What to do for a cycle now: a pure function of what was observed and the time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from alignment_api import names
from alignment_api.conditions import Reason
from alignment_api.cycle_status import AlignmentCycleStatus, Iteration
from alignment_api.stage import Stage
from alignment_operator.observed import ObservedCycle
from alignment_operator.plan import (
    conditions,
    housekeeping,
    instants,
    iteration,
    lineage,
    record,
    retention,
    rollback,
    start,
    suspension,
    targets,
    trigger,
    verbs,
)
from alignment_operator.plan.start import Cause
from alignment_operator.plan.targets import TargetsState
from alignment_operator.plan.trigger import Outlook
from alignment_operator.plan.verbs import Request
from alignment_operator.planned import Action, CyclePlan, Event


def plan(observed: ObservedCycle, now: datetime) -> CyclePlan:
    """Actions, the next status, events, and when to look again. Writing the status again changes nothing."""
    known = replace(observed, status=record.recalled(observed))
    requests = verbs.pending(known.owner.annotations, known.status.handled)
    stalled = _stalled(known)
    outlook = None if stalled or known.spec is None else trigger.look(known, now)
    if outlook and observed.status.iterations is None:
        # A status that was never written, or lost, is written first: only then it can tell what was acted on.
        outlook = replace(outlook, start=None)
    cause = None if outlook is None else _cause(known, requests, outlook)
    blocked = start.blocked_by(known) if cause else None
    step = _step(known, requests, stalled, None if blocked else cause, now)
    status, spurned = _handled(step.status, requests, known)
    follow = None if stalled else targets.follow(known)
    retained = retention.Retained(status) if stalled else retention.retain(known, status, now)
    situation = conditions.Situation(stalled=stalled, blocked=blocked, targets=follow, outlook=outlook)
    missed = (outlook.event,) if outlook and outlook.event else ()
    return CyclePlan(
        actions=(
            *step.actions,
            *suspension.follow(known),
            *_tidy(known, step.status),
            *(follow.actions if follow else ()),
            *retained.actions,
        ),
        status=conditions.settle(known, _told(known, retained.status, follow, outlook, now), situation, now),
        events=(*missed, *suspension.events(known), *step.events, *spurned, *retained.events),
        wake_at=instants.earliest(
            step.wake_at,
            retained.wake_at,
            outlook.wake_at if outlook else None,
            _first_look(observed, now),
            targets.look_again_at(observed, now),
        ),
        runs=_runs(status.iteration) and not suspension.holds(known),
        waits_for_turn=blocked is not None and blocked[0] == Reason.WAITING_FOR_TURN,
    )


def _runs(current: Iteration | None) -> bool:
    return current is not None and current.outcome is None and not iteration.waits_for_approval(current)


def _cause(observed: ObservedCycle, requests: dict[str, Request], outlook: Outlook) -> Cause | None:
    """What asks for an iteration now. A person goes first; one iteration at a time, and none while suspended."""
    iteration = observed.status.iteration
    if suspension.holds(observed) or (iteration is not None and iteration.outcome is None):
        return None
    if run := requests.get("run"):
        return Cause("Manual", run.value)
    if outlook.start:
        return Cause(outlook.start, observed.status.handled.get("run", ""), outlook.slot)
    return None


def _first_look(observed: ObservedCycle, now: datetime) -> datetime | None:
    """Triggers wait until a status was written."""
    return now if observed.status.iterations is None else None


def _told(
    observed: ObservedCycle,
    status: AlignmentCycleStatus,
    follow: TargetsState | None,
    outlook: Outlook | None,
    now: datetime,
) -> AlignmentCycleStatus:
    """The status with what targets and triggers show; an iteration that starts now has taken its slot.

    Nothing new of a cycle that is stalled.
    """
    if outlook is None or follow is None or observed.spec is None:
        return status
    if status.iterations != observed.status.iterations:
        outlook = trigger.look(replace(observed, status=status), now)
    rows = observed.spec.history.iterations
    return status.model_copy(
        update={
            "targets": list(follow.rows),
            "next_run_at": outlook.next_run_at,
            "datasets": lineage.news(observed.datasets, status.promoted, status.datasets),
            "history": status.history[:rows],
        }
    )


def _stalled(observed: ObservedCycle) -> tuple[Reason, str] | None:
    if evidence := record.lost(observed):
        return Reason.PROMOTION_RECORD_LOST, (
            f"{evidence}; nothing is written until you say what is promoted: annotate alignment.dev/adopt=sha256:…"
        )
    if observed.problems:
        return Reason.INVALID_SPEC, "; ".join(str(problem) for problem in observed.problems)[:4000]
    return None


def _step(
    observed: ObservedCycle,
    requests: dict[str, Request],
    stalled: tuple[Reason, str] | None,
    cause: Cause | None,
    now: datetime,
) -> CyclePlan:
    current = observed.status.iteration
    lost = stalled is not None and stalled[0] == Reason.PROMOTION_RECORD_LOST
    adopt = requests.get("adopt")
    if adopt and lost and not adopt.problem:
        status, event = record.adopt(observed, adopt, now)
        return CyclePlan((), status, (event,), now)
    if lost:
        return CyclePlan((), observed.status)
    back = requests.get("rollback")
    if back and not rollback.problem(observed.status, back):
        return rollback.roll_back(observed, back, now)
    if current and current.outcome is None:
        return iteration.advance(observed, requests, now)
    if cause:
        return start.start(observed, cause, now)
    return CyclePlan((), observed.status)


def _handled(
    status: AlignmentCycleStatus, requests: dict[str, Request], observed: ObservedCycle
) -> tuple[AlignmentCycleStatus, tuple[Event, ...]]:
    """Verbs that were acted on, and those that nothing can come of, are not looked at again."""
    handled = dict(status.handled)
    events = []
    before = observed.status.iteration
    for verb, request in requests.items():
        if verb == "run" or handled.get(verb) == request.value:
            continue
        problem = rollback.problem(observed.status, request) if verb == "rollback" else request.problem
        if problem:
            events.append(
                Event(Reason.INVALID_ANNOTATION, f"{verb} {request.value}: {problem}", warning=True)
            )
        elif verb == "adopt":
            events.append(
                Event(
                    Reason.INVALID_ANNOTATION, f"adopt {request.value}: the record is not lost", warning=True
                )
            )
        elif _acted_on(request, status, before is not None and before.outcome is None):
            pass
        elif _in_vain(request, status):
            message = f"{verb} {request.value}: {names.verb_annotation(verb)} names nothing that waits for it"
            events.append(Event(Reason.INVALID_ANNOTATION, message, warning=True))
        else:
            continue
        handled[verb] = request.value
    return status.model_copy(update={"handled": handled}), tuple(events)


def _acted_on(request: Request, status: AlignmentCycleStatus, was_running: bool) -> bool:
    """Whether this very pass carried the request out."""
    current = status.iteration
    if current is None or not was_running or request.number != current.number:
        return False
    match request.verb:
        case "cancel":
            return current.outcome == "Cancelled"
        case "reject":
            return current.reason == Reason.REJECTED_BY_PERSON
        case _:
            return current.reason == Reason.APPROVED and iteration.approves(request, current)


def _in_vain(request: Request, status: AlignmentCycleStatus) -> bool:
    """Whether nothing will ever come of it: its iteration is over, or its evidence is another."""
    current = status.iteration
    if current is None or request.number is None or request.number > current.number:
        return False
    if request.number < current.number or current.outcome is not None:
        return True
    if request.verb == "approve" and current.evidence_digest is not None:
        return not iteration.approves(request, current)
    return False


def _tidy(observed: ObservedCycle, after: AlignmentCycleStatus) -> tuple[Action, ...]:
    """What an iteration that begins or ends in this very pass needs of its Jobs is seen by the next pass."""
    current = observed.status.iteration
    if record.lost(observed) or _stands(current) != _stands(after.iteration):
        return ()
    number = current.number if current else 0
    later = iteration.stages_to_come(observed)
    jobs = [
        job
        for job in observed.jobs
        # After a lost status, stages that are not reached again yet may have live Jobs: they are adopted then.
        if job.stage != Stage.COLLECT and not (job.iteration == number and job.stage in later)
    ]

    def ttl(stage: Stage) -> int:
        return iteration.settled_pods(observed.spec, stage).ttl_seconds_after_finished

    awaited = iteration.current_config(observed)
    if awaited is None:
        return housekeeping.tidy(jobs, None, number, None, ttl)
    entry, config = awaited
    expected = (names.stage_hash(config.owner_uid, config.to_wire()), entry.attempt)
    return housekeeping.tidy(jobs, entry, number, expected, ttl)


def _stands(current: Iteration | None) -> tuple[int, str | None] | None:
    return (current.number, current.outcome) if current else None

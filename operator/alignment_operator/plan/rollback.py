"""Rollback: what an earlier iteration promoted, or M_0, is promoted again; the next promotion takes an approval."""

from __future__ import annotations

from datetime import datetime

from alignment_api.conditions import Reason
from alignment_api.cycle_status import MAX_PROMOTIONS, AlignmentCycleStatus, Outcome, Promoted
from alignment_operator.observed import ObservedCycle
from alignment_operator.plan import instants, iteration
from alignment_operator.plan.verbs import Request
from alignment_operator.planned import CyclePlan, Event


def problem(status: AlignmentCycleStatus, request: Request) -> str:
    """Why it cannot be gone back to; empty if it can."""
    if request.problem:
        return request.problem
    promoted, number = status.promoted, request.number
    if promoted is None:
        return "nothing was promoted yet"
    if number == promoted.iteration:
        others = ", ".join(map(str, _choices(status))) or "none"
        what = f"what iteration {number} promoted" if number else "M_0"
        return f"{what} is what is promoted; choose of: {others}"
    if _target(status, request) is None:
        there = ", ".join(str(each) for each in _choices(status))
        return f"iteration {number} promoted nothing that is known and kept; choose of: {there or 'none'}"
    return ""


def roll_back(observed: ObservedCycle, request: Request, now: datetime) -> CyclePlan:
    """Not to be called with a `problem`. A running iteration ends: its incumbent is another now."""
    running = observed.status.iteration is not None and observed.status.iteration.outcome is None
    plan = iteration.ended_by_rollback(observed, now) if running else CyclePlan((), observed.status)
    status = plan.status
    left, target = status.promoted, _target(status, request)
    assert left is not None
    assert target is not None
    again = target.model_copy(update={"at": instants.spell(now), "rolled_back": True})
    others = [each for each in status.promotions if each.digest not in {again.digest, left.digest}]
    status = status.model_copy(
        update={
            "promoted": again,
            "promotions": [left.model_copy(update={"rolled_back": None}), *others][:MAX_PROMOTIONS],
            "handled": {**status.handled, request.verb: request.value},
        }
    )
    what = f"iteration {again.iteration}" if again.iteration else "M_0"
    message = f"rolled back to what {what} promoted, by a person ({request.value})"
    if not again.iteration:
        message = f"rolled back to M_0, by a person ({request.value})"
    event = Event(Reason.ROLLED_BACK, f"{again.digest} is promoted again: {message}")
    status = _told(status, left.iteration, "Promoted", "RolledBack", message)
    status = _told(status, again.iteration, "RolledBack", "Promoted", message)
    return CyclePlan(plan.actions, status, (*plan.events, event), now)


def _choices(status: AlignmentCycleStatus) -> list[int]:
    """Iterations whose promotion is remembered and whose checkpoint is there, and 0 if M_0 is known."""
    collected = status.collection
    gone = range(1, collected.iteration + 1) if collected else range(0)
    kept = [
        each.iteration
        for each in status.promotions
        if each.iteration not in gone or (collected and each.iteration in collected.kept)
    ]
    return sorted(
        {*kept, *([0] if status.initial else [])} - {status.promoted.iteration if status.promoted else -1}
    )


def _target(status: AlignmentCycleStatus, request: Request) -> Promoted | None:
    if request.number not in _choices(status):
        return None
    if request.number == 0 and status.initial is not None:
        return Promoted(iteration=0, uri=status.initial.uri, digest=status.initial.digest, at="")
    return next(each for each in status.promotions if each.iteration == request.number)


def _told(
    status: AlignmentCycleStatus, number: int, before: Outcome, after: Outcome, message: str
) -> AlignmentCycleStatus:
    """The iteration whose checkpoint leaves service or comes back, in the history too."""
    changed = {"outcome": after, "reason": str(Reason.ROLLED_BACK)}
    history = [
        row.model_copy(update=changed) if (row.number, row.outcome) == (number, before) else row
        for row in status.history
    ]
    last = status.iteration
    if last is not None and (last.number, last.outcome) == (number, before):
        last = last.model_copy(update=changed | {"message": message})
    return status.model_copy(update={"history": history, "iteration": last})

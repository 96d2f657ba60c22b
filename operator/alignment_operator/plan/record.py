"""The record of what is promoted: when it was lost, and how a person restores it.

A status can be lost or put back from a backup. What serves users must not go back with it, so an operator that
finds a target ahead of its record writes no target and starts nothing until a person says `adopt`.
"""

from __future__ import annotations

from datetime import datetime

from alignment_api.conditions import Reason
from alignment_api.cycle_status import MAX_PROMOTIONS, AlignmentCycleStatus, Promoted
from alignment_operator.observed import ObservedCycle
from alignment_operator.plan import instants, lineage
from alignment_operator.plan.verbs import Request
from alignment_operator.planned import Event


def lost(observed: ObservedCycle) -> str:
    """What shows that the record was lost; empty if it was not."""
    status = observed.status
    known = {promotion.digest for promotion in (status.promoted, *status.promotions) if promotion}
    for target in observed.targets:
        if target.digest and target.digest not in known and not _belongs_to_another(observed, target.owner):
            return f"{target.where} carries {target.digest}, which status does not know as promoted"
    if status.promoted is None:
        for number, frozen in sorted(observed.frozen.items(), reverse=True):
            if frozen.incumbent:
                return (
                    f"iteration {number} started from {frozen.incumbent.digest}, and status.promoted is empty"
                )
    return ""


def _belongs_to_another(observed: ObservedCycle, owner: str | None) -> bool:
    mine = f"{observed.owner.namespace}/{observed.owner.name}"
    return owner is not None and owner.rsplit("/", 1)[0] != mine


def recalled(observed: ObservedCycle) -> AlignmentCycleStatus:
    """The status with what only ControllerRevisions and Jobs still know, if it was lost: what counts as started."""
    status = observed.status
    if status.iterations is not None:
        return status
    used = status.iteration.number if status.iteration else 0
    last = max(observed.frozen, default=0)
    most = max(used, last, *(job.iteration for job in observed.jobs), 0)
    handled = dict(status.handled)
    if last > used and observed.frozen[last].trigger != "Manual":
        handled = _remembered(observed) | handled
    return status.model_copy(update={"iterations": most, "handled": handled})


def adopt(observed: ObservedCycle, request: Request, now: datetime) -> tuple[AlignmentCycleStatus, Event]:
    """The status with the record restored, or as it was with a warning of why not."""
    handled = {**_remembered(observed), **observed.status.handled, "adopt": request.value}
    status = observed.status.model_copy(update={"handled": handled})
    carried = {target.digest: target.value for target in observed.targets if target.digest and target.value}
    started_from = {
        frozen.incumbent.digest: frozen.incumbent.uri
        for frozen in observed.frozen.values()
        if frozen.incumbent
    }
    recorded = observed.status.promoted
    uri = carried.get(request.digest)
    if uri is None and recorded and recorded.digest == request.digest:
        uri = recorded.uri
    if uri is None and not carried:
        uri = started_from.get(request.digest)
    if uri is None:
        could = ", ".join(sorted(carried or started_from)) or "none"
        message = f"adopt {request.value}: no target carries that digest; carried: {could}"
        return status, Event(Reason.INVALID_ANNOTATION, message, warning=True)
    promoted = _as_promoted(observed, request.digest, uri, now)
    # What else the targets carry is known from now on, and so repaired instead of believed.
    known = {promotion.digest for promotion in status.promotions} | {promoted.digest}
    others = [recorded] if recorded and recorded.digest not in known else []
    others += [
        _as_promoted(observed, digest, stray, now) for digest, stray in carried.items() if digest not in known
    ]
    begun = max(promoted.iteration, *(job.iteration for job in observed.jobs), 0)
    if begun >= max(observed.frozen, default=0) > (status.iterations or 0):
        handled |= _remembered(
            observed
        )  # the status is older than the last iteration, and so are its requests
    status = status.model_copy(
        update={
            "handled": handled,
            "promoted": promoted,
            "promotions": [*others, *status.promotions][:MAX_PROMOTIONS],
        }
    )
    return status, Event("Adopted", f"{request.digest} is what is promoted")


def _as_promoted(observed: ObservedCycle, digest: str, uri: str, now: datetime) -> Promoted:
    recorded = observed.status.promoted
    if recorded and recorded.digest == digest:
        return recorded
    number = _promoted_by(observed, digest, uri)
    there = None if number is None else observed.frozen.get(number)
    return Promoted(
        iteration=number or 0,
        uri=uri,
        digest=digest,
        at=instants.spell(now),
        datasets=lineage.extended(None, there.datasets) if there else [],
        rolled_back=_came_back(observed, number) or None,
    )


def _came_back(observed: ObservedCycle, number: int | None) -> bool:
    """Whether an iteration started from what a later one than `number` had promoted: that took a rollback."""
    incumbents = [frozen.incumbent for frozen in observed.frozen.values() if frozen.incumbent]
    later = max((_promoted_by(observed, each.digest, each.uri) or 0 for each in incumbents), default=0)
    return number is not None and later > number


def _remembered(observed: ObservedCycle) -> dict[str, str]:
    """The last request that an iteration was started for, which a lost status has forgotten."""
    run = observed.frozen[max(observed.frozen)].handled_run if observed.frozen else ""
    return {"run": run} if run else {}


def _promoted_by(observed: ObservedCycle, digest: str, uri: str) -> int | None:
    """The iteration in whose folder of this cycle's it is; else the one before the first that started from it."""
    _, ours, rest = uri.partition(f"/{observed.owner.uid}/iterations/")
    number = rest.partition("/")[0]
    if ours and number.isdecimal():
        return int(number)
    numbers = [
        number
        for number, frozen in observed.frozen.items()
        if frozen.incumbent and frozen.incumbent.digest == digest
    ]
    return min(numbers) - 1 if numbers else None

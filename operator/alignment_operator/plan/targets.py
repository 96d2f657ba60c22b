"""Targets follow `status.promoted`, and are repaired when they drift.

A manager that takes a field back after it was written is overruled once. After the second time the target is left alone
until the next promotion, and the condition says who holds it: two that write in turns for ever help nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from alignment_api.conditions import Reason
from alignment_api.cycle_status import Promoted, TargetStatus
from alignment_operator.observed import ObservedCycle, TargetView
from alignment_operator.planned import PointTarget

_OFTEN = 2
_LOOK_AGAIN = timedelta(minutes=5)


@dataclass(frozen=True)
class TargetsState:
    """What to write, how the condition TargetsSynced reads, and what status.targets remembers."""

    actions: tuple[PointTarget, ...]
    synced: bool
    reason: Reason
    message: str
    rows: tuple[TargetStatus, ...] = ()


def look_again_at(observed: ObservedCycle, now: datetime) -> datetime | None:
    """Not every cluster has InferenceServices, so they are not watched: that one drifted shows by looking."""
    seen = any(target.kind == "InferenceService" for target in observed.targets)
    return now + _LOOK_AGAIN if seen and observed.settings.heed_triggers else None


def follow(observed: ObservedCycle) -> TargetsState:
    """Not to be called when the promotion record was lost."""
    promoted = observed.status.promoted
    if not observed.targets:
        return TargetsState((), True, Reason.NO_TARGETS, "spec.promotion.targets is empty")
    mine = f"{observed.owner.namespace}/{observed.owner.name}"
    foreign = [target for target in observed.targets if _claimed(target, mine)]
    if foreign:
        said = ", ".join(f"{target.where} by {target.owner}" for target in foreign)
        message = f"{said}: claimed by another cycle; give each cycle a target of its own"
        return TargetsState((), False, Reason.CLAIMED_BY_ANOTHER_CYCLE, message)
    if promoted is None:
        return TargetsState((), True, Reason.NOTHING_PROMOTED, "targets are written at the first promotion")
    absent = [target.where for target in observed.targets if _must_be_there(target)]
    state = _pointed(
        [target for target in observed.targets if not _must_be_there(target)], promoted, observed
    )
    if not absent:
        return state
    message = f"not there: {', '.join(absent)}; make it, and its storageUri is set"
    return replace(state, synced=False, reason=Reason.TARGET_MISSING, message=message)


def _must_be_there(target: TargetView) -> bool:
    """Only its maker knows what an InferenceService needs beside a model."""
    return target.kind == "InferenceService" and not target.exists


def _pointed(targets: Iterable[TargetView], promoted: Promoted, observed: ObservedCycle) -> TargetsState:
    known = {(row.kind, row.name, row.key): row for row in observed.status.targets}
    rows = {
        target: _row(target, promoted, known.get((target.kind, target.name, target.key)))
        for target in targets
    }
    behind = [target for target in rows if _is_behind(target, promoted)]
    # A write sets all keys of its ConfigMap: one that is held keeps the others from being written, and one is enough.
    held = {target.where: target.held_by for target in behind if _is_left(target, rows[target])}
    written = {target.where: target for target in behind if target.where not in held}
    points = tuple(_point(target, promoted) for target in written.values())
    kept = tuple(rows.values())
    if held:
        who = ", ".join(f"{where} by {manager}" for where, manager in held.items())
        message = (
            f"taken back twice, and left alone until the next promotion: {who}; let only one of them manage the "
            f"field, then delete it or set it to {promoted.uri}"
        )
        return TargetsState(points, False, Reason.TAKEN_BACK, message, kept)
    if points:
        said = ", ".join(point.where for point in points)
        return TargetsState(points, False, Reason.UPDATING, f"writing {promoted.uri} to {said}", kept)
    return TargetsState((), True, Reason.SYNCED, f"all carry {promoted.uri}", kept)


def _point(target: TargetView, promoted: Promoted) -> PointTarget:
    uri, digest = promoted.uri, promoted.digest
    return PointTarget(target.name, target.key, uri, digest, target.kind, target.resource_version)


def _row(target: TargetView, promoted: Promoted, before: TargetStatus | None) -> TargetStatus:
    """It is written together with the effect: a target that is behind is written in this very pass."""
    if before is None or before.digest != promoted.digest:
        return TargetStatus(kind=target.kind, name=target.name, key=target.key, digest=promoted.digest)
    if not _is_behind(target, promoted) or target.held_by is None or before.taken_back >= _OFTEN:
        return before
    return before.model_copy(update={"taken_back": before.taken_back + 1, "manager": target.held_by})


def _is_left(target: TargetView, row: TargetStatus) -> bool:
    return row.taken_back >= _OFTEN and target.held_by is not None


def _is_behind(target: TargetView, promoted: Promoted) -> bool:
    wanted = promoted.digest if target.digest_key else None
    return (target.value, target.digest, target.digest_value) != (promoted.uri, promoted.digest, wanted)


def _claimed(target: TargetView, mine: str) -> bool:
    return bool(target.owner and target.owner.rsplit("/", 1)[0] != mine)

"""Targets follow `status.promoted`, and are repaired when they drift."""

from __future__ import annotations

from dataclasses import dataclass

from alignment_api.conditions import Reason
from alignment_operator.observed import ObservedCycle, TargetView
from alignment_operator.planned import PointTarget


@dataclass(frozen=True)
class TargetsState:
    """What to write, and how the condition TargetsSynced reads."""

    actions: tuple[PointTarget, ...]
    synced: bool
    reason: Reason
    message: str


def follow(observed: ObservedCycle) -> TargetsState:
    """Not to be called when the promotion record was lost."""
    promoted = observed.status.promoted
    if not observed.targets:
        return TargetsState((), True, Reason.NO_TARGETS, "spec.promotion.targets is empty")
    mine = f"{observed.owner.namespace}/{observed.owner.name}"
    foreign = [target for target in observed.targets if _claimed(target, mine)]
    if foreign:
        said = ", ".join(f"ConfigMap {target.name} by {target.owner}" for target in foreign)
        message = f"{said}: claimed by another cycle; give each cycle a target of its own"
        return TargetsState((), False, Reason.CLAIMED_BY_ANOTHER_CYCLE, message)
    if promoted is None:
        return TargetsState((), True, Reason.NOTHING_PROMOTED, "targets are written at the first promotion")
    behind = tuple(
        PointTarget(name=target.name, key=target.key, uri=promoted.uri, digest=promoted.digest)
        for target in observed.targets
        if target.value != promoted.uri or target.digest != promoted.digest
    )
    if behind:
        said = ", ".join(f"ConfigMap {target.name}" for target in behind)
        return TargetsState(behind, False, Reason.UPDATING, f"writing {promoted.uri} to {said}")
    return TargetsState((), True, Reason.SYNCED, f"all carry {promoted.uri}")


def _claimed(target: TargetView, mine: str) -> bool:
    return bool(target.exists and target.owner and target.owner.rsplit("/", 1)[0] != mine)

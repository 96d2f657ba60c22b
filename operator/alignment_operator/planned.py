"""What one pass decides: actions in the order they are done, then one status, then events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.dataset import PreferenceDatasetStatus
from alignment_api.pods import PodDefaults
from alignment_api.stage import StageConfig
from alignment_operator.observed import Frozen


@dataclass(frozen=True)
class Freeze:
    """Keep what the iteration works from, as an `apps/v1` ControllerRevision owned by the cycle."""

    frozen: Frozen


@dataclass(frozen=True)
class StartJob:
    """Create the Job of a stage's attempt; one that is there already is adopted if owner and hash match.

    Its UID goes into the status entry of that stage before the status is written.
    """

    name: str
    hash: str
    config: StageConfig
    attempt: int
    pods: PodDefaults


@dataclass(frozen=True)
class DeleteJob:
    """Delete a Job and its pods; another Job of that name is left alone."""

    name: str
    uid: str


@dataclass(frozen=True)
class SuspendJob:
    """Suspend a Job, which ends its pods without a failure, or let it go on."""

    name: str
    uid: str
    suspend: bool


@dataclass(frozen=True)
class HoldJob:
    """The same for a Job in a queue of Kueue's, by its Workload: Kueue suspends the Job, or queues it again."""

    name: str
    uid: str
    hold: bool


@dataclass(frozen=True)
class ExpireJob:
    """Give a finished Job, whose result is in status, a TTL."""

    name: str
    uid: str
    seconds: int


@dataclass(frozen=True)
class DeleteRevision:
    """Delete a ControllerRevision that nothing reads any more."""

    name: str
    uid: str


@dataclass(frozen=True)
class PointTarget:
    """Server-side apply of the promoted model's URI and digest to a target, as it was when that was decided.

    `resource_version` is empty if the target was not there.
    """

    name: str
    key: str
    uri: str
    digest: str
    kind: Literal["ConfigMap", "InferenceService"] = "ConfigMap"
    resource_version: str = ""

    @property
    def where(self) -> str:
        return f"{self.kind} {self.name}"


Action = Freeze | StartJob | DeleteJob | SuspendJob | HoldJob | ExpireJob | DeleteRevision | PointTarget


@dataclass(frozen=True)
class Event:
    """A Kubernetes event about the owner, emitted after the status is written.

    The same again is one event with a count: the same reason and `about`, or, without one, the same message.
    """

    reason: str
    message: str
    warning: bool = False
    about: str = ""


@dataclass(frozen=True)
class CyclePlan:
    """`wake_at`: when to look again though nothing changed; None: only on change.

    `runs`: an iteration that neither a person nor `spec.suspend` holds. `waits_for_turn`: one is due, and has none.
    """

    actions: tuple[Action, ...]
    status: AlignmentCycleStatus
    events: tuple[Event, ...] = ()
    wake_at: datetime | None = None
    runs: bool = False
    waits_for_turn: bool = False


@dataclass(frozen=True)
class DatasetPlan:
    """The same for a PreferenceDataset."""

    actions: tuple[Action, ...]
    status: PreferenceDatasetStatus
    events: tuple[Event, ...] = ()
    wake_at: datetime | None = None

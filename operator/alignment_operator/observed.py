"""What one pass sees. Frozen: `observe` makes it, `plan` reads it, nobody changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import AlignmentCycleStatus, DatasetRevision, StageProgress, StartedBy, Tested
from alignment_api.dataset import PreferenceDatasetSpec, PreferenceDatasetStatus
from alignment_api.stage import Located, Stage
from alignment_api.validation import Problem


@dataclass(frozen=True)
class Settings:
    """How the operator was installed."""

    worker_image: str
    wait_for_inputs: bool = (
        True  # False without a cluster: nothing appears while a person waits at the terminal
    )
    heed_triggers: bool = True  # False without a cluster: there a command is the request


@dataclass(frozen=True)
class Owner:
    """Identity of the object that a pass is about."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    annotations: Mapping[str, str]
    created_at: datetime | None = None  # None before the API has made it


class JobState(StrEnum):
    ACTIVE = "Active"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True)
class PodView:
    """What the pods of a Job amount to: the newest, or what several come to."""

    exit_code: int | None = None  # of the container `worker`, once it ended
    report: str = ""  # its termination message
    started: bool = False  # the container `worker` has run
    disrupted: bool = False  # the condition DisruptionTarget
    pending: str = ""  # why it has not started, in the scheduler's or kubelet's words
    gone_by: datetime | None = (
        None  # it is Terminating, and its grace ends then; later, its node is not heard of any more
    )


@dataclass(frozen=True)
class JobView:
    """A Job that carries this owner's UID and our labels."""

    name: str
    uid: str
    stage: Stage
    iteration: int
    attempt: int
    hash: str
    state: JobState
    created_at: datetime
    failure: str = (
        ""  # reason of the condition Failed: BackoffLimitExceeded, PodFailurePolicy, DeadlineExceeded
    )
    message: str = ""
    deleting: bool = False
    suspended: bool = False
    held: bool = False  # its Workload is not active, so Kueue does not let it run
    held_by_us: bool = False  # and it says that we made it so
    queue: str = ""  # of Kueue's, which alone may suspend the Job and resume it
    ttl_set: bool = False
    failures: int = 0  # pods that failed and cost a retry
    progress: StageProgress | None = None  # as its workers said last
    pod: PodView | None = None


@dataclass(frozen=True)
class Frozen:
    """What an iteration works from: the data of its ControllerRevision."""

    name: str
    number: int
    trigger: StartedBy
    slot: str  # of the schedule, empty if it is another trigger
    started_at: str
    handled_run: str
    generation: int
    spec: AlignmentCycleSpec  # fully defaulted, images filled in
    incumbent: Located | None  # None: M_0, whose digest the first stage reports
    datasets: tuple[DatasetRevision, ...]
    contract_version: int
    tested: Tested | None = None  # before this iteration


@dataclass(frozen=True)
class RevisionView:
    """A ControllerRevision of the cycle."""

    name: str
    uid: str
    number: int


@dataclass(frozen=True)
class DatasetView:
    """A PreferenceDataset that the cycle names; `revision` is None while it is not Ready."""

    name: str
    revision: DatasetRevision | None
    message: str = ""  # why it is not Ready
    kept: frozenset[str] = frozenset()  # URIs of all its revisions that an iteration can work from


@dataclass(frozen=True)
class TargetView:
    """A promotion target as it is: absent, or with the value and digest that it carries."""

    name: str
    key: str
    exists: bool
    value: str | None = None
    digest: str | None = None
    owner: str | None = None  # NAMESPACE/NAME/UID of the cycle that wrote the digest
    held_by: str | None = None  # another field manager that owns a key or the digest
    kind: Literal["ConfigMap", "InferenceService"] = "ConfigMap"
    resource_version: str = ""  # empty while it is absent
    digest_key: str | None = None  # a second key of the ConfigMap, for the digest
    digest_value: str | None = None  # what is there

    @property
    def where(self) -> str:
        """For people, and for telling one target object from another."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class ObservedCycle:
    """Everything that `plan.cycle` decides from."""

    owner: Owner
    settings: Settings
    spec: AlignmentCycleSpec | None  # None: problems says why
    problems: tuple[Problem, ...]
    status: AlignmentCycleStatus
    jobs: tuple[JobView, ...] = ()
    frozen: Mapping[int, Frozen] = field(
        default_factory=dict
    )  # by iteration number: the current and the next
    revisions: tuple[RevisionView, ...] = ()  # all there are, looked at only while no iteration runs
    datasets: tuple[DatasetView, ...] = ()  # in the order of spec.datasets
    targets: tuple[TargetView, ...] = ()  # in the order of spec.promotion.targets
    has_turn: bool = True  # False: as many iterations run as the operator lets run at once


@dataclass(frozen=True)
class ObservedDataset:
    """Everything that `plan.dataset` decides from."""

    owner: Owner
    settings: Settings
    spec: PreferenceDatasetSpec | None
    problems: tuple[Problem, ...]
    status: PreferenceDatasetStatus
    jobs: tuple[JobView, ...] = ()
    in_use: frozenset[str] | None = (
        None  # URIs of revisions that cycles work from; looked at only while a collection is about to start
    )

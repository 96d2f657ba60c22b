"""The status of `AlignmentCycle`: what the operator writes. Nothing in it grows without bound."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from alignment_api import uris
from alignment_api.conditions import Condition
from alignment_api.gates import GateResult
from alignment_api.model import ListMap, Model
from alignment_api.stage import Digest, Key, Located, Stage, StageResult

Text = Annotated[str, StringConstraints(max_length=4096)]
Outcome = Literal["Promoted", "Rejected", "Failed", "Cancelled", "RolledBack"]
StartedBy = Literal["Schedule", "NewPairs", "Manual"]


class StageProgress(Model):
    """How far a running stage is, as its worker says now and then. No decision depends on it."""

    done: int = Field(ge=0, description="Units done of the part of the stage that is running.")
    total: int | None = Field(None, ge=0, description="Units of that part; absent if nobody knows.")
    unit: str = Field(max_length=32, description="What is counted, in the plural.")
    seconds_left: int | None = Field(None, ge=0, description="Seconds that the part will still take.")
    node: str | None = Field(None, max_length=253, description="The node that it runs on.")


class StageStatus(Model):
    """Where one stage of the iteration stands."""

    name: Stage = Field(description="The stage.")
    state: Literal["Pending", "Running", "Succeeded", "Failed"] = Field(
        description="Pending: waiting for its Job to be made, or for an input."
    )
    job: str | None = Field(None, max_length=63, description="The Job of the current attempt.")
    job_uid: str | None = Field(
        None, alias="jobUID", max_length=64, description="Its UID: another Job of that name is not ours."
    )
    attempt: int = Field(0, ge=0, description="Jobs of this stage before the current one.")
    disruptions: int = Field(0, ge=0, description="Attempts lost to disruptions; they cost no retry.")
    failures: int = Field(
        0,
        ge=0,
        description="Attempts of several nodes that failed by themselves; one pod's retries are its Job's.",
    )
    retries: int = Field(0, ge=0, description="Pods of the current Job that failed and were replaced.")
    started_at: str | None = Field(None, max_length=32, description="When its first Job was made.")
    finished_at: str | None = Field(None, max_length=32, description="When it succeeded or failed.")
    pending_since: str | None = Field(
        None,
        max_length=32,
        description="Since when no worker computes, for want of a node, an image or an input.",
    )
    retry_at: str | None = Field(None, max_length=32, description="When the next attempt is due.")
    reason: str | None = Field(None, max_length=128, description="Why it failed or waits.")
    message: Text | None = Field(None, description="The same for people.")
    progress: StageProgress | None = Field(None, description="How far it is, while it runs.")
    result: StageResult | None = Field(None, description="What it reported.")


class DatasetRevision(Model):
    """A dataset's revision that the iteration froze."""

    name: str = Field(max_length=63, description="The PreferenceDataset.")
    revision: int = Field(ge=1, description="Its number.")
    uri: str = Field(max_length=uris.MAX_STORED_LENGTH, description="Its folder.")
    digest: str = Field(max_length=71, description="Of its content.")
    pairs: int | None = Field(
        None, ge=0, description="Pairs that it and those before it had, for KTO and unpaired rows."
    )


class Iteration(Model):
    """The running iteration, or the last."""

    number: int = Field(ge=1, description="From 1.")
    trigger: StartedBy = Field(description="What started it.")
    stage: Stage | None = Field(None, description="Where it stands.")
    outcome: Outcome | None = Field(None, description="Absent while it runs.")
    reason: str | None = Field(None, max_length=128, description="Why it ended so, or what it waits for.")
    message: Text | None = Field(None, description="The same for people, with numbers.")
    generation: int = Field(description="The generation of the spec that it froze.")
    revision: str = Field(max_length=63, description="The ControllerRevision that keeps what it froze.")
    started_at: str = Field(max_length=32, description="When it started.")
    finished_at: str | None = Field(None, max_length=32, description="When it ended.")
    inputs: dict[Key, Digest] = Field(
        {}, max_length=64, description="Digests of the inputs, as the first stage found them."
    )
    datasets: list[DatasetRevision] = Field(
        [], max_length=16, description="The revisions that it works from."
    )
    incumbent: Located | None = Field(None, description="What the candidate is compared with.")
    candidate: Located | None = Field(None, description="The checkpoint just trained.")
    stages: list[StageStatus] = Field([], max_length=8, description="Its stages so far.")
    gates: list[GateResult] = Field([], max_length=8, description="What the gates say.")
    evidence_digest: str | None = Field(None, max_length=71, description="What an approval must name.")
    level_percent: float | None = Field(
        None, description="Of the test of its win rate, with gates.winRate.falseDiscoveryPercent."
    )


class LearnedFrom(Model):
    """How much of a dataset a lineage has worked from."""

    name: str = Field(max_length=63, description="The PreferenceDataset.")
    pairs: int = Field(ge=0, description="Pairs up to the last revision of it that the lineage worked from.")
    uri: str | None = Field(
        None,
        max_length=uris.MAX_STORED_LENGTH,
        description="That revision's folder: it stays as long as the checkpoint does.",
    )


MAX_PROMOTIONS = 20


class Promoted(Model):
    """What is promoted."""

    iteration: int = Field(
        ge=0, description="The iteration that promoted it; 0 after adopt, if nobody remembers."
    )
    uri: str = Field(max_length=uris.MAX_STORED_LENGTH, description="The checkpoint.")
    digest: str = Field(max_length=71, description="Its digest.")
    at: str = Field(max_length=32, description="When.")
    evidence_digest: str | None = Field(
        None, max_length=71, description="Of the evidence in the store; absent after adopt."
    )
    rolled_back: bool | None = Field(
        None, description="It came by a rollback, so that the next promotion needs an approval."
    )
    datasets: list[LearnedFrom] = Field(
        [], max_length=16, description="What its lineage has worked from; the rest of each dataset is new."
    )


class Tested(Model):
    """How often the win rate was put to the test since M_0: a loop that tries every week will be lucky one day."""

    candidates: int = Field(ge=0, description="Candidates whose win rate was judged.")
    passed: int = Field(0, ge=0, description="Those that passed.")
    alpha_spent_percent: float = Field(
        ge=0,
        description="Sum of the levels of these tests: at most so many percent is the chance that any of them passed a "
        "candidate that is not preferred, were none of them.",
    )


class DatasetNews(Model):
    """What a dataset holds that the incumbent has not learned from."""

    name: str = Field(max_length=63, description="The PreferenceDataset.")
    new_pairs: int = Field(ge=0, description="Pairs outside the incumbent's lineage.")


class TargetStatus(Model):
    """What was last written to a target, and who else wants it."""

    kind: Literal["ConfigMap", "InferenceService"] = Field("ConfigMap", description="The target's kind.")
    name: str = Field(max_length=253, description="Its name.")
    key: str = Field(max_length=253, description="The ConfigMap's key, or storageUri.")
    digest: str = Field(max_length=71, description="Of the checkpoint that was last written to it.")
    taken_back: int = Field(
        0,
        ge=0,
        description="How often another manager took it back since; after the second time it is left alone.",
    )
    manager: str | None = Field(None, max_length=128, description="That manager.")


class HistoryRow(Model):
    """An iteration that ended."""

    number: int = Field(description="The iteration.")
    outcome: Outcome = Field(description="How it ended.")
    reason: str = Field(max_length=128, description="Why.")
    finished_at: str = Field(max_length=32, description="When.")
    candidate_digest: str | None = Field(None, max_length=71, description="The checkpoint that it trained.")


class Collection(Model):
    """The stage `collect` of the last iteration after which artifacts had to go."""

    iteration: int = Field(ge=1, description="The newest iteration that it looks at.")
    kept: list[int] = Field(max_length=64, description="Iterations whose artifacts stay.")
    stage: StageStatus = Field(description="Where it stands.")


class AlignmentCycleStatus(Model):
    """What the operator knows of the cycle."""

    observed_generation: int | None = Field(None, description="The generation that the status speaks of.")
    conditions: Annotated[list[Condition], ListMap("type")] = Field(
        [],
        max_length=16,
        description="Ready, Reconciling, Stalled (kstatus); Iterating, Promoted, WaitingForApproval, TargetsSynced, "
        "Suspended.",
    )
    initial: Located | None = Field(None, description="M_0, as the first iteration found it.")
    handled: dict[Key, Text] = Field(
        {}, max_length=16, description="The last value of each verb's annotation that was acted on."
    )
    iteration: Iteration | None = Field(None, description="The running iteration, or the last.")
    iterations: int | None = Field(
        None,
        ge=0,
        description="The highest number that an iteration has had, that of a lost status included.",
    )
    promoted: Promoted | None = Field(None, description="What is promoted.")
    promotions: list[Promoted] = Field(
        [], max_length=MAX_PROMOTIONS, description="What was promoted before it, the newest first."
    )
    tested: Tested | None = Field(None, description="How often the win rate was put to the test since M_0.")
    targets: list[TargetStatus] = Field(
        [], max_length=16, description="What was last written to spec.promotion.targets."
    )
    datasets: list[DatasetNews] = Field([], max_length=16, description="What spec.datasets hold that is new.")
    next_run_at: str | None = Field(
        None,
        max_length=32,
        description="The next slot of the schedule, or the one that is due and waits; absent while suspended.",
    )
    history: list[HistoryRow] = Field(
        [], max_length=100, description="Iterations that ended, the newest first."
    )
    collection: Collection | None = Field(None, description="What retention last let go.")

    @classmethod
    def of(cls, wire: dict[str, Any] | None) -> AlignmentCycleStatus:
        """Raises `pydantic.ValidationError` if somebody wrote what is not a status."""
        return cls.from_wire(wire or {})

"""Conditions of both kinds, and every reason that they can carry."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from alignment_api.model import Model


class ConditionType(StrEnum):
    """Ready, Reconciling and Stalled are kstatus's; the others are ours."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    ITERATING = "Iterating"
    PROMOTED = "Promoted"
    WAITING_FOR_APPROVAL = "WaitingForApproval"
    TARGETS_SYNCED = "TargetsSynced"
    SUSPENDED = "Suspended"


class Reason(StrEnum):
    """Why a condition is as it is, or why an iteration ended as it did.

    A stage that failed gives its own reason (`ExitCode.reason`), a gate that failed its own (`GateReason`).
    """

    IDLE = "Idle"
    ITERATING = "Iterating"
    ITERATION_FAILED = "IterationFailed"
    WAITING_FOR_APPROVAL = "WaitingForApproval"
    NO_ITERATION = "NoIteration"
    OBSERVED = "Observed"
    SUSPENDED = "Suspended"
    NOT_SUSPENDED = "NotSuspended"
    # Stalled
    INVALID_SPEC = "InvalidSpec"
    PROMOTION_RECORD_LOST = "PromotionRecordLost"
    FROZEN_SPEC_LOST = "FrozenSpecLost"
    NAME_TAKEN = "NameTaken"
    # a verb's annotation
    INVALID_ANNOTATION = "InvalidAnnotation"
    # end of an iteration
    ALL_GATES_PASSED = "AllGatesPassed"
    APPROVED = "Approved"
    REJECTED_BY_PERSON = "RejectedByPerson"
    INCONCLUSIVE = "Inconclusive"
    CANCELLED = "Cancelled"
    ROLLED_BACK = "RolledBack"
    INCUMBENT_CHANGED = "IncumbentChanged"
    EVIDENCE_MISMATCH = "EvidenceMismatch"
    # stages
    JOB_FAILED = "JobFailed"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    PENDING_DEADLINE_EXCEEDED = "PendingDeadlineExceeded"
    RESULT_INVALID = "ResultInvalid"
    REFUSED = "Refused"  # a Job or a write to a target, by the API server: quota, admission, permission
    TOO_MANY_DISRUPTIONS = "TooManyDisruptions"
    DATASET_NOT_READY = "DatasetNotReady"
    WAITING_FOR_TURN = "WaitingForTurn"  # as many iterations run as the operator lets run at once
    # schedule
    SCHEDULE_MISSED = "ScheduleMissed"
    # targets
    NO_TARGETS = "NoTargets"
    SYNCED = "Synced"
    NOTHING_PROMOTED = "NothingPromoted"
    UPDATING = "Updating"
    TARGET_MISSING = "TargetMissing"
    CLAIMED_BY_ANOTHER_CYCLE = "ClaimedByAnotherCycle"
    TAKEN_BACK = "TakenBack"  # by another manager, twice
    # datasets
    INGESTED = "Ingested"
    INGESTING = "Ingesting"
    INGEST_FAILED = "IngestFailed"
    LENGTH_BIASED = "LengthBiased"
    TOO_MANY_IN_USE = "TooManyInUse"  # revisions, for one collection to name them


class Condition(Model):
    """A Kubernetes condition (meta/v1)."""

    type: Annotated[str, StringConstraints(max_length=64)] = Field(description="The condition.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[str, StringConstraints(max_length=128)] = Field(description="Why, in CamelCase.")
    message: Annotated[str, StringConstraints(max_length=4096)] = Field(description="Why, for people.")
    observed_generation: int = Field(description="The generation that it speaks of.")
    last_transition_time: Annotated[str, StringConstraints(max_length=32)] = Field(
        description="When `status` changed last."
    )


def updated(
    conditions: list[Condition],
    type_: ConditionType,
    *,
    holds: bool | None,
    reason: str,
    message: str,
    generation: int,
    now: str,
) -> list[Condition]:
    """The conditions with one of them replaced or added; the transition time moves only with the status."""
    status: Literal["True", "False", "Unknown"] = "Unknown" if holds is None else "True" if holds else "False"
    old = next((condition for condition in conditions if condition.type == type_), None)
    since = old.last_transition_time if old and old.status == status else now
    new = Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message[:4096],
        observed_generation=generation,
        last_transition_time=since,
    )
    if old is None:
        return [*conditions, new]
    return [new if condition.type == type_ else condition for condition in conditions]


def find(conditions: list[Condition], type_: ConditionType) -> Condition | None:
    return next((condition for condition in conditions if condition.type == type_), None)

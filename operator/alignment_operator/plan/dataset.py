"""What to do for a PreferenceDataset now: one ingest for each generation of its spec, and what is over is collected."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from alignment_api import names
from alignment_api.conditions import ConditionType, Reason, updated
from alignment_api.cycle_status import StageStatus
from alignment_api.dataset import PreferenceDatasetSpec, PreferenceDatasetStatus
from alignment_api.pods import PodDefaults
from alignment_api.stage import Stage
from alignment_operator import schedules
from alignment_operator.observed import ObservedDataset, Settings
from alignment_operator.plan import (
    dataset_config,
    dataset_result,
    dataset_retention,
    housekeeping,
    instants,
    stage,
    suspension,
    verbs,
)
from alignment_operator.planned import DatasetPlan

_APART = timedelta(minutes=1)


def plan(observed: ObservedDataset, now: datetime) -> DatasetPlan:
    """Actions, the next status, events, and when to look again. Writing the status again changes nothing."""
    jobs = tuple(job for job in observed.jobs if job.stage == Stage.INGEST)
    refresh = _refresh(replace(observed, jobs=jobs), now)
    if observed.spec is None or observed.problems:
        return refresh
    pods = with_image(observed.spec.defaults, observed.settings)
    retained = dataset_retention.retain(observed, refresh.status, pods, now)
    return DatasetPlan(
        (*refresh.actions, *retained.actions),
        retained.status,
        (*refresh.events, *retained.events),
        instants.earliest(refresh.wake_at, retained.wake_at),
    )


def _refresh(observed: ObservedDataset, now: datetime) -> DatasetPlan:
    status, spec = observed.status, observed.spec
    if spec is None or (observed.problems and not _running(status)):
        return DatasetPlan((), _settled(observed, status, now))
    if _running(status):
        return _followed(observed, spec, now)
    held, told = suspension.holds(observed), suspension.events(observed)
    if not held and (_asked(observed) or _due(observed, now)):
        # The Job's config carries the instant: it is in status before there is a Job, or a crash between makes another.
        begun = _begun(observed, status, now)
        return DatasetPlan((), _settled(observed, begun, now), told, now)
    ttl = spec.defaults.ttl_seconds_after_finished
    actions = housekeeping.tidy(observed.jobs, None, status.ingest_number, None, lambda _: ttl)
    settled = _settled(observed, status.model_copy(update=_still_announced(observed, now)), now)
    return DatasetPlan(actions, settled, told, None if held else _instant(settled.next_refresh_at))


def _followed(observed: ObservedDataset, spec: PreferenceDatasetSpec, now: datetime) -> DatasetPlan:
    """The refresh that runs, or is suspended, and what it adds when it has ended."""
    status = observed.status
    assert status.ingest is not None
    follow, told = suspension.follow(observed), suspension.events(observed)
    if suspension.holds(observed) and (paused := suspension.paused(status.ingest, observed.jobs)):
        waiting = status.model_copy(update={"ingest": paused})
        return DatasetPlan(follow, _settled(observed, waiting, now), told)
    resumed = suspension.resumed(status.ingest)
    config = dataset_config.config_of(observed, spec, status.ingest_number, resumed)
    pods = with_image(spec.defaults, observed.settings)
    progress = stage.advance(
        resumed,
        config,
        observed.owner.name,
        observed.jobs,
        pods,
        now,
        wait_for_inputs=observed.settings.wait_for_inputs,
    )
    expected = (names.stage_hash(config.owner_uid, config.to_wire()), status.ingest.attempt)
    tidied = housekeeping.tidy(
        observed.jobs,
        status.ingest,
        status.ingest_number,
        expected,
        lambda _: pods.ttl_seconds_after_finished,
    )
    status, events = dataset_result.after(status.model_copy(update={"ingest": progress.status}), spec, now)
    wake_at = progress.wake_at
    if not _running(status):
        status = status.model_copy(update=_apart(status, now))
        wake_at = instants.earliest(wake_at, _instant(status.next_refresh_at))
    actions = (*follow, *progress.actions, *tidied)
    return DatasetPlan(actions, _settled(observed, status, now), (*told, *events), wake_at)


def with_image(defaults: PodDefaults, settings: Settings) -> PodDefaults:
    return defaults.model_copy(update={"image": defaults.image or settings.worker_image})


def _asked(observed: ObservedDataset) -> bool:
    run = verbs.asked(observed.owner.annotations, "run")
    new_request = bool(run) and run != observed.status.handled.get("run")
    return new_request or observed.status.ingest_generation != observed.owner.generation


def _due(observed: ObservedDataset, now: datetime) -> bool:
    """A slot that was announced and has come, even if nobody was there then."""
    at = _instant(observed.status.next_refresh_at)
    return at is not None and at <= now and bool(_announced(observed, now)["next_refresh_at"])


def _announced(observed: ObservedDataset, now: datetime) -> dict[str, str | None]:
    """The next slot, of the schedule as it is now."""
    refresh = observed.spec.refresh if observed.spec else None
    if suspension.holds(observed):  # what was announced before is due when it goes on
        return {"next_refresh_at": observed.status.next_refresh_at if refresh else None}
    if refresh is None or observed.problems or not observed.settings.heed_triggers:
        return {"next_refresh_at": None}
    following = schedules.around(refresh.schedule, refresh.time_zone, now)[1]
    return {"next_refresh_at": instants.spell(following) if following else None}


def _still_announced(observed: ObservedDataset, now: datetime) -> dict[str, str | None]:
    """While nothing is due: the same, or what was announced before and comes earlier."""
    told, following = observed.status.next_refresh_at, _announced(observed, now)["next_refresh_at"]
    return {"next_refresh_at": min(told, following) if told and following else following}


def _apart(status: PreferenceDatasetStatus, now: datetime) -> dict[str, str | None]:
    """After a refresh: a slot that has come meanwhile waits, or no cycle ever finds Ready what takes longer than its
    schedule's step."""
    at = _instant(status.next_refresh_at)
    return {"next_refresh_at": instants.spell(now + _APART)} if at and at <= now else {}


def _instant(spelled: str | None) -> datetime | None:
    return instants.parse(spelled) if spelled else None


def _running(status: PreferenceDatasetStatus) -> bool:
    return status.ingest is not None and status.ingest.state in {"Pending", "Running"}


def _begun(
    observed: ObservedDataset, status: PreferenceDatasetStatus, now: datetime
) -> PreferenceDatasetStatus:
    """The number is the next that the status knows of: the worker sees by it whether the store knows more."""
    run = verbs.asked(observed.owner.annotations, "run")
    return status.model_copy(
        update={
            "ingest": StageStatus(name=Stage.INGEST, state="Pending", started_at=instants.spell(now)),
            "ingest_number": status.ingest_number + 1,
            "ingest_generation": observed.owner.generation,
            "handled": {**status.handled, "run": run} if run else status.handled,
            **_announced(observed, now),
        }
    )


def _settled(
    observed: ObservedDataset, status: PreferenceDatasetStatus, now: datetime
) -> PreferenceDatasetStatus:
    """The status with its conditions and observedGeneration."""
    ready, stalled = _ready(observed, status), bool(observed.problems)
    generation = observed.owner.generation
    said = (
        (ConditionType.READY, *ready),
        (ConditionType.RECONCILING, False, Reason.OBSERVED, f"generation {generation} is observed"),
        (
            ConditionType.STALLED,
            stalled,
            Reason.INVALID_SPEC if stalled else Reason.OBSERVED,
            _said(observed) if stalled else "nothing is in the way",
        ),
        (ConditionType.SUSPENDED, *suspension.condition(observed)),
    )
    conditions = status.conditions
    for type_, holds, reason, message in said:
        conditions = updated(
            conditions,
            type_,
            holds=holds,
            reason=reason,
            message=message,
            generation=generation,
            now=instants.spell(now),
        )
    return status.model_copy(update={"conditions": conditions, "observed_generation": generation})


def _said(observed: ObservedDataset) -> str:
    return "; ".join(str(problem) for problem in observed.problems)[:4000]


def _ready(observed: ObservedDataset, status: PreferenceDatasetStatus) -> tuple[bool, str, str]:
    """The last good revision stays in force, but only for the spec that it was made from."""
    if observed.problems:
        return False, Reason.INVALID_SPEC, _said(observed)
    ingest = status.ingest
    outdated = status.ingest_generation != observed.owner.generation
    if ingest is None or outdated or ingest.state in {"Pending", "Running"}:
        if suspension.holds(observed):
            there = f"revision {status.revision.number} is in force; " if status.revision else ""
            return bool(there), Reason.SUSPENDED, f"{there}no refresh runs until spec.suspend is false"
        message = (
            ingest.message if ingest and ingest.message else f"refresh {status.ingest_number} is running"
        )
        return False, Reason.INGESTING, message
    if ingest.state == "Failed":
        return False, ingest.reason or Reason.INGEST_FAILED, ingest.message or ""
    if observed.spec is not None and (biased := dataset_result.length_bias(ingest, observed.spec)):
        return False, Reason.LENGTH_BIASED, biased
    assert status.rows is not None
    return (
        True,
        Reason.INGESTED,
        f"{dataset_result.contents(status)}, {dataset_result.left_out(status.rows)} rows left out",
    )

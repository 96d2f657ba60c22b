"""Which of a dataset's revisions stay: the newest, and those that cycles work from. `collect` deletes the others.

What may go is written down first, in `status.collection`: from then on no iteration can freeze it (apply.py). Only a
later pass looks at what cycles work from, and starts the Job. So of an iteration and a collection that begin at once,
one sees the other.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from alignment_api import names
from alignment_api.conditions import Reason
from alignment_api.cycle_status import StageStatus
from alignment_api.dataset import (
    MAX_IN_USE,
    PreferenceDatasetSpec,
    PreferenceDatasetStatus,
    Retention,
    Revision,
    RevisionCollection,
)
from alignment_api.pods import PodDefaults
from alignment_api.stage import CollectParameters, KeptRevisions, Stage, StageConfig
from alignment_api.uris import join
from alignment_operator.observed import ObservedDataset
from alignment_operator.plan import housekeeping, stage, suspension
from alignment_operator.planned import Action, DatasetPlan, Event


def retain(
    observed: ObservedDataset, status: PreferenceDatasetStatus, pods: PodDefaults, now: datetime
) -> DatasetPlan:
    """`status` is what the rest of the plan made. Not to be called without a spec."""
    spec = observed.spec
    assert spec is not None
    observed = replace(observed, jobs=tuple(job for job in observed.jobs if job.stage == Stage.COLLECT))
    follow = suspension.follow(observed)
    if suspension.holds(observed):
        return DatasetPlan(follow, _paused(observed, status))
    status = _due(status, spec.retention)
    collection = status.collection
    pods = pods.model_copy(
        update={"resources": pods.resources.without_extended() if pods.resources else None}
    )
    if collection is None or not _running(collection):
        return DatasetPlan((*follow, *_tidied(observed, pods, collection, None)), status)
    if collection.stage.job is None:
        if observed.in_use is None or observed.status.collection != collection:
            return DatasetPlan(follow, status, wake_at=now)
        if more := _used(observed, collection):
            return DatasetPlan(follow, _with(status, _extended(collection, more, now)), wake_at=now)
    config = _config(observed, spec, collection)
    progress = stage.advance(
        suspension.resumed(collection.stage),
        config,
        observed.owner.name,
        observed.jobs,
        pods,
        now,
        wait_for_inputs=False,
    )
    after = collection.model_copy(update={"stage": progress.status})
    # Deleted as soon as there may be a Job: what is deleted is in no list.
    listed = [each for each in status.revisions if after.stage.job is None or not _is_gone(after, each)]
    return DatasetPlan(
        (*follow, *progress.actions, *_tidied(observed, pods, collection, config)),
        _with(status.model_copy(update={"revisions": listed}), after),
        _events(after),
        progress.wake_at,
    )


def _with(status: PreferenceDatasetStatus, collection: RevisionCollection) -> PreferenceDatasetStatus:
    return status.model_copy(update={"collection": collection})


def _running(collection: RevisionCollection) -> bool:
    return collection.stage.state in {"Pending", "Running"}


def _paused(observed: ObservedDataset, status: PreferenceDatasetStatus) -> PreferenceDatasetStatus:
    collection = status.collection
    if collection is None or not _running(collection):
        return status
    paused = suspension.paused(collection.stage, observed.jobs)
    return _with(status, collection.model_copy(update={"stage": paused or collection.stage}))


def _due(status: PreferenceDatasetStatus, retention: Retention) -> PreferenceDatasetStatus:
    """The status with a collection begun, if a refresh has ended and a revision need not stay.

    Refreshes that made no revision leave folders too; they are not worth a Job each.
    """
    ingest, before = status.ingest, status.collection
    if ingest is None or ingest.state not in {"Succeeded", "Failed"} or ingest.started_at is None:
        return status
    if before and (_running(before) or before.refresh >= status.ingest_number):
        return status
    last = before.refresh if before else 0
    known = [*([status.revision] if status.revision else []), *status.revisions]
    stay, others = known[: retention.revisions], known[retention.revisions :]
    made = sum(1 for each in known if _number(each) > last)
    idle = status.ingest_number - last - made
    spared = before.in_use if before else []
    if all(_folder(each) in spared for each in others) and idle <= retention.revisions:
        return status
    begun = RevisionCollection(
        refresh=status.ingest_number,
        started_at=ingest.started_at,
        kept=[_folder(each) for each in stay],
        stage=StageStatus(name=Stage.COLLECT, state="Pending"),
    )
    return _with(status, begun)


def _folder(revision: Revision) -> str:
    return revision.uri.rpartition("/")[2]


def _number(revision: Revision) -> int:
    refresh = names.refresh_of(revision.uri)
    return refresh[0] if refresh else 0


def _is_gone(collection: RevisionCollection, revision: Revision) -> bool:
    return collection.lets_go(revision.uri)


def _prefix(observed: ObservedDataset, spec: PreferenceDatasetSpec) -> str:
    owner = observed.owner
    return names.cycle_prefix(spec.store.uri, owner.namespace, owner.name, owner.uid)


def _used(observed: ObservedDataset, collection: RevisionCollection) -> list[str]:
    """Folders of this very dataset that cycles work from and that would go."""
    assert observed.spec is not None
    folder = names.revisions_prefix(_prefix(observed, observed.spec)) + "/"
    found = {uri.removeprefix(folder) for uri in observed.in_use or () if uri.startswith(folder)}
    return sorted(found - {*collection.kept, *collection.in_use})


def _extended(collection: RevisionCollection, more: list[str], now: datetime) -> RevisionCollection:
    in_use = [*collection.in_use, *more]
    if len(in_use) > MAX_IN_USE:
        message = f"cycles work from {len(in_use)} old revisions; at most {MAX_IN_USE} can be named here"
        ended = stage.failed(collection.stage, now, Reason.TOO_MANY_IN_USE, message)
        return collection.model_copy(update={"stage": ended})
    return collection.model_copy(update={"in_use": in_use})


def _config(
    observed: ObservedDataset, spec: PreferenceDatasetSpec, collection: RevisionCollection
) -> StageConfig:
    prefix = _prefix(observed, spec)
    folder = names.refresh_folder(collection.refresh, collection.started_at)
    return StageConfig(
        stage=Stage.COLLECT,
        owner_uid=observed.owner.uid,
        iteration=collection.refresh,
        output=join(names.collected_prefix(prefix), folder),
        inputs={},
        parameters=CollectParameters(
            revisions=KeptRevisions(
                dataset_prefix=prefix,
                kept=[*collection.kept, *collection.in_use],
                newest=spec.retention.revisions,
            )
        ),
        seed=0,
    )


def _tidied(
    observed: ObservedDataset,
    pods: PodDefaults,
    collection: RevisionCollection | None,
    config: StageConfig | None,
) -> tuple[Action, ...]:
    """Its Jobs that nothing waits for."""
    ttl = pods.ttl_seconds_after_finished
    if collection is None or config is None:
        return housekeeping.tidy(observed.jobs, None, 0, None, lambda _: ttl)
    expected = (names.stage_hash(config.owner_uid, config.to_wire()), collection.stage.attempt)
    return housekeeping.tidy(observed.jobs, collection.stage, collection.refresh, expected, lambda _: ttl)


def _events(collection: RevisionCollection) -> tuple[Event, ...]:
    entry = collection.stage
    if entry.state == "Failed":
        return (Event("CollectFailed", f"revisions were not deleted: {entry.message}", warning=True),)
    if entry.state == "Succeeded" and entry.result:
        gone, stay = entry.result.counts.get("deleted", 0), [*collection.kept, *collection.in_use]
        return (Event("Collected", f"folders of {gone} refreshes were deleted; kept: {', '.join(stay)}"),)
    return ()

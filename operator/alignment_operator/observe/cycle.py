"""Everything that `plan.cycle` decides from."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from alignment_api import names
from alignment_api.conditions import ConditionType, find
from alignment_api.cycle import AlignmentCycleSpec, Target
from alignment_api.cycle_status import AlignmentCycleStatus, DatasetRevision
from alignment_api.dataset import PreferenceDatasetStatus, Revision
from alignment_api.validation import parse_cycle
from alignment_operator import schedules
from alignment_operator.api import CONTROLLER_REVISION, CYCLE, DATASET, TARGET_KINDS, Api, Manifest
from alignment_operator.observe.jobs import observe_jobs
from alignment_operator.observe.known import Known, Revisions
from alignment_operator.observe.objects import UnreadableError, controlled_by, live, owner_of, status_of
from alignment_operator.observed import (
    DatasetView,
    Frozen,
    ObservedCycle,
    Owner,
    RevisionView,
    Settings,
    TargetView,
)
from alignment_operator.render import parse_revision


async def observe_cycle(
    api: Api, namespace: str, name: str, settings: Settings, known: Known | None = None
) -> ObservedCycle | None:
    """None if there is no such cycle, or it is on its way out.

    What cannot be parsed is among the problems: the spec is None then, and the status as if it were lost.
    """
    known = known or Known()
    manifest = await live(api, CYCLE, namespace, name, known.latest)
    if manifest is None:
        return None
    owner = owner_of(manifest)
    spec, problems = parse_cycle(manifest)
    problems += schedules.problems(spec)
    status = status_of(AlignmentCycleStatus, manifest)
    stages = [
        *(status.iteration.stages if status.iteration else ()),
        *([status.collection.stage] if status.collection else ()),
    ]
    views, (frozen, revisions), datasets, targets = await asyncio.gather(
        observe_jobs(api, owner, stages, known.jobs),
        _frozen(api, manifest, owner, status, known.revisions),
        _datasets(api, namespace, spec),
        _targets(api, namespace, spec),
    )
    return ObservedCycle(
        owner=owner,
        settings=settings,
        spec=spec,
        problems=problems,
        status=status,
        jobs=views,
        frozen=frozen,
        revisions=revisions,
        datasets=datasets,
        targets=targets,
        has_turn=known.has_turn,
    )


def seems_to_run(cycle: Manifest) -> bool:
    """By its status alone, before the first pass: an iteration that neither a person nor `spec.suspend` holds."""
    iteration, conditions = (cycle.get("status", {}).get(key) for key in ("iteration", "conditions"))
    holding = {ConditionType.WAITING_FOR_APPROVAL, ConditionType.SUSPENDED}
    held = any(each["type"] in holding and each["status"] == "True" for each in conditions or ())
    return bool(iteration) and "outcome" not in iteration and not held


_LAST_REVISIONS = 3


async def _frozen(
    api: Api, cycle: Manifest, owner: Owner, status: AlignmentCycleStatus, kept: Revisions | None
) -> tuple[Mapping[int, Frozen], tuple[RevisionView, ...]]:
    """What the last iterations froze, and every ControllerRevision that was looked at.

    Raises UnreadableError if the running iteration froze what this operator cannot read.
    """
    found: dict[int, Frozen] = {}
    manifests = await _revisions(api, owner, status, kept)
    for manifest in manifests[-_LAST_REVISIONS:]:
        try:
            frozen = parse_revision(manifest)
        except (ValueError, KeyError) as error:
            name = manifest["metadata"]["name"]
            message = (
                f"ControllerRevision {name}: this operator cannot read what the iteration froze: {error}"
            )
            raise UnreadableError(message[:1000], cycle) from error
        found[frozen.number] = frozen
    return found, tuple(_revision(manifest) for manifest in manifests)


def _revision(manifest: Manifest) -> RevisionView:
    metadata = manifest["metadata"]
    return RevisionView(metadata["name"], metadata["uid"], int(manifest["revision"]))


async def _revisions(
    api: Api, owner: Owner, status: AlignmentCycleStatus, kept: Revisions | None
) -> list[Manifest]:
    """The running iteration's; with none running, all: a status put back may not know of the last ones."""
    if status.iteration is None or status.iteration.outcome:
        listed = await api.list(CONTROLLER_REVISION, owner.namespace, {names.LABEL_OWNER_UID: owner.uid})
        ours = [revision for revision in listed if controlled_by(revision, owner.uid)]
        return sorted(ours, key=lambda revision: int(revision["revision"]))
    name = names.revision_name(owner.name, status.iteration.number)
    if kept and (known := kept.get((owner.uid, name))):
        return [known]
    revision = await api.get(CONTROLLER_REVISION, owner.namespace, name)
    if revision is None or not controlled_by(revision, owner.uid):
        return []
    if kept:
        kept.keep((owner.uid, name), revision)
    return [revision]


async def _datasets(api: Api, namespace: str, spec: AlignmentCycleSpec | None) -> tuple[DatasetView, ...]:
    wanted = [dataset.name for dataset in (spec.datasets or [])] if spec else []
    manifests = await asyncio.gather(*(live(api, DATASET, namespace, name) for name in wanted))
    unpaired = spec is not None and spec.training.method == "KTO"
    return tuple(
        _dataset(name, manifest, unpaired=unpaired) for name, manifest in zip(wanted, manifests, strict=True)
    )


def _ever(status: PreferenceDatasetStatus, revision: Revision, *, unpaired: bool) -> int | None:
    """A revision of an older worker knows what it holds alone."""
    if revision.pairs_ever is None:
        pairs, others = status.pairs, status.unpaired
    else:
        pairs, others = revision.pairs_ever, revision.unpaired_ever
    return (pairs or 0) + (others or 0) if unpaired else pairs


def _dataset(name: str, manifest: Manifest | None, *, unpaired: bool) -> DatasetView:
    """`unpaired`: whether the cycle learns from unpaired rows too, which then count as pairs do."""
    if manifest is None:
        return DatasetView(name, None, f"there is no PreferenceDataset {name!r} in this namespace")
    try:
        status = status_of(PreferenceDatasetStatus, manifest)
    except UnreadableError as error:
        return DatasetView(name, None, str(error))
    if status.observed_generation != manifest["metadata"].get("generation", 0):
        return DatasetView(name, None, f"PreferenceDataset {name!r} has a change that is not taken in yet")
    ready = find(status.conditions, ConditionType.READY)
    if status.revision is None or ready is None or ready.status != "True":
        return DatasetView(
            name, None, ready.message if ready else f"PreferenceDataset {name!r} is not ready yet"
        )
    revision = status.revision
    return DatasetView(
        name,
        DatasetRevision(
            name=name,
            revision=revision.number,
            uri=revision.uri,
            digest=revision.digest,
            pairs=_ever(status, revision, unpaired=unpaired),
        ),
        kept=frozenset(each.uri for each in status.kept),
    )


async def _targets(api: Api, namespace: str, spec: AlignmentCycleSpec | None) -> tuple[TargetView, ...]:
    targets = [_view(target) for target in (spec.promotion.targets or [])] if spec else []
    wanted = sorted({(target.kind, target.name) for target in targets})
    manifests = await asyncio.gather(*(api.get(TARGET_KINDS[kind], namespace, name) for kind, name in wanted))
    found = dict(zip(wanted, manifests, strict=True))
    return tuple(_seen(target, found[target.kind, target.name]) for target in targets)


def _view(wanted: Target) -> TargetView:
    """Where the value is: the ConfigMap's key, the InferenceService's storageUri."""
    if wanted.inference_service:
        name = wanted.inference_service.name
        return TargetView(name, "storageUri", exists=False, kind="InferenceService")
    assert wanted.config_map is not None
    key, digest_key = wanted.config_map.key, wanted.config_map.digest_key
    return TargetView(wanted.config_map.name, key, exists=False, digest_key=digest_key)


def _seen(target: TargetView, manifest: Manifest | None) -> TargetView:
    if manifest is None:
        return target
    annotations = manifest["metadata"].get("annotations") or {}
    above = ("data",) if target.kind == "ConfigMap" else ("spec", "predictor", "model")
    values = [(*above, key) for key in (target.key, target.digest_key) if key]
    return replace(
        target,
        exists=True,
        value=_at(manifest, values[0]),
        digest_value=_at(manifest, values[1]) if target.digest_key else None,
        digest=annotations.get(names.ANNOTATION_DIGEST),
        owner=annotations.get(names.ANNOTATION_OWNER),
        held_by=_other_manager(manifest, values),
        resource_version=manifest["metadata"]["resourceVersion"],
    )


def _at(manifest: Manifest, path: tuple[str, ...]) -> str | None:
    found: Any = manifest
    for step in path:
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _other_manager(manifest: Manifest, values: Sequence[tuple[str, ...]]) -> str | None:
    """The field manager, not this operator, that owns a value, or else the digest."""
    for path in (*values, ("metadata", "annotations", names.ANNOTATION_DIGEST)):
        for entry in manifest["metadata"].get("managedFields") or []:
            fields: Any = entry.get("fieldsV1")
            for step in path:
                fields = fields.get(f"f:{step}") if isinstance(fields, dict) else None
            if fields is not None and entry.get("manager") not in (None, names.FIELD_MANAGER):
                return str(entry["manager"])
    return None

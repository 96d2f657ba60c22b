"""Everything that `plan.cycle` decides from."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from alignment_api import names
from alignment_api.conditions import ConditionType, find
from alignment_api.cycle import AlignmentCycleSpec, ConfigMapTarget
from alignment_api.cycle_status import AlignmentCycleStatus, DatasetRevision
from alignment_api.dataset import PreferenceDatasetStatus
from alignment_api.validation import Problem, parse_cycle
from alignment_operator.api import CONFIG_MAP, CONTROLLER_REVISION, CYCLE, DATASET, Api, Manifest
from alignment_operator.observe.jobs import JobSource, observe_jobs
from alignment_operator.observe.objects import live, owner_of, status_of
from alignment_operator.observed import DatasetView, Frozen, ObservedCycle, Owner, Settings, TargetView
from alignment_operator.render import parse_revision


async def observe_cycle(
    api: Api, namespace: str, name: str, settings: Settings, jobs: JobSource | None = None
) -> ObservedCycle | None:
    """None if there is no such cycle, or it is on its way out. Without `jobs`, they are listed from the API.

    What cannot be parsed is among the problems: the spec is None then, and the status as if it were lost.
    """
    manifest = await live(api, CYCLE, namespace, name)
    if manifest is None:
        return None
    owner = owner_of(manifest)
    spec, problems = parse_cycle(manifest)
    status, status_problems = status_of(AlignmentCycleStatus, manifest)
    stages = status.iteration.stages if status.iteration else []
    views, (frozen, frozen_problems), datasets, targets = await asyncio.gather(
        observe_jobs(api, owner, stages, jobs),
        _frozen(api, owner, status),
        _datasets(api, namespace, spec),
        _targets(api, namespace, spec),
    )
    return ObservedCycle(
        owner=owner,
        settings=settings,
        spec=spec,
        problems=(*problems, *status_problems, *frozen_problems),
        status=status,
        jobs=views,
        frozen=frozen,
        datasets=datasets,
        targets=targets,
    )


async def _frozen(
    api: Api, owner: Owner, status: AlignmentCycleStatus
) -> tuple[Mapping[int, Frozen], tuple[Problem, ...]]:
    """What the current iteration and the next froze; with the status lost, what the last one did."""
    found: dict[int, Frozen] = {}
    problems: list[Problem] = []
    for manifest in await _revisions(api, owner, status):
        try:
            frozen = parse_revision(manifest)
        except (ValueError, KeyError) as error:
            message = f"this operator cannot read what the iteration froze: {error}"
            problems.append(
                Problem("status.iteration.revision", manifest["metadata"]["name"], message[:1000])
            )
        else:
            found[frozen.number] = frozen
    return found, tuple(problems)


async def _revisions(api: Api, owner: Owner, status: AlignmentCycleStatus) -> list[Manifest]:
    if status.iteration is None:
        listed = await api.list(CONTROLLER_REVISION, owner.namespace, {names.LABEL_OWNER_UID: owner.uid})
        return sorted(listed, key=lambda revision: int(revision["revision"]))[-1:]
    current = status.iteration.number
    # The next one is there already if the operator was killed just before it wrote that the iteration started.
    numbers = (current, current + 1) if status.iteration.outcome else (current,)
    revisions = await asyncio.gather(
        *(
            api.get(CONTROLLER_REVISION, owner.namespace, names.revision_name(owner.name, number))
            for number in numbers
        )
    )
    return [revision for revision in revisions if revision and controlled_by(revision, owner.uid)]


def controlled_by(manifest: Manifest, uid: str) -> bool:
    """Whether the object's controller, by owner reference, is the one with this UID."""
    references = manifest["metadata"].get("ownerReferences") or []
    return any(reference["uid"] == uid and reference.get("controller") for reference in references)


async def _datasets(api: Api, namespace: str, spec: AlignmentCycleSpec | None) -> tuple[DatasetView, ...]:
    wanted = [dataset.name for dataset in (spec.datasets or [])] if spec else []
    manifests = await asyncio.gather(*(live(api, DATASET, namespace, name) for name in wanted))
    return tuple(_dataset(name, manifest) for name, manifest in zip(wanted, manifests, strict=True))


def _dataset(name: str, manifest: Manifest | None) -> DatasetView:
    if manifest is None:
        return DatasetView(name, None, f"there is no PreferenceDataset {name!r} in this namespace")
    status, problems = status_of(PreferenceDatasetStatus, manifest)
    if problems:
        return DatasetView(name, None, f"PreferenceDataset {name!r}: {problems[0]}")
    if status.observed_generation != manifest["metadata"].get("generation", 0):
        return DatasetView(name, None, f"PreferenceDataset {name!r} has a change that is not taken in yet")
    ready = find(status.conditions, ConditionType.READY)
    if status.revision is None or ready is None or ready.status != "True":
        return DatasetView(
            name, None, ready.message if ready else f"PreferenceDataset {name!r} is not ready yet"
        )
    revision = status.revision
    return DatasetView(
        name, DatasetRevision(name=name, revision=revision.number, uri=revision.uri, digest=revision.digest)
    )


async def _targets(api: Api, namespace: str, spec: AlignmentCycleSpec | None) -> tuple[TargetView, ...]:
    targets = (spec.promotion.targets or []) if spec else []
    config_maps = [target.config_map for target in targets if target.config_map]
    wanted = sorted({config_map.name for config_map in config_maps})
    manifests = await asyncio.gather(*(api.get(CONFIG_MAP, namespace, name) for name in wanted))
    found = dict(zip(wanted, manifests, strict=True))
    return tuple(_target(config_map, found[config_map.name]) for config_map in config_maps)


def _target(wanted: ConfigMapTarget, manifest: Manifest | None) -> TargetView:
    if manifest is None:
        return TargetView(wanted.name, wanted.key, exists=False)
    annotations = manifest["metadata"].get("annotations") or {}
    return TargetView(
        wanted.name,
        wanted.key,
        exists=True,
        value=(manifest.get("data") or {}).get(wanted.key),
        digest=annotations.get(names.ANNOTATION_DIGEST),
        owner=annotations.get(names.ANNOTATION_OWNER),
    )

"""Everything that `plan.dataset` decides from."""

from __future__ import annotations

from alignment_api.dataset import PreferenceDatasetStatus
from alignment_api.validation import parse_dataset
from alignment_operator import schedules
from alignment_operator.api import DATASET, Api
from alignment_operator.observe.jobs import observe_jobs
from alignment_operator.observe.known import Known
from alignment_operator.observe.objects import live, owner_of, status_of
from alignment_operator.observe.revisions_in_use import revisions_in_use
from alignment_operator.observed import ObservedDataset, Settings


async def observe_dataset(
    api: Api, namespace: str, name: str, settings: Settings, known: Known | None = None
) -> ObservedDataset | None:
    """As `observe_cycle`."""
    known = known or Known()
    manifest = await live(api, DATASET, namespace, name, known.latest)
    if manifest is None:
        return None
    owner = owner_of(manifest)
    spec, problems = parse_dataset(manifest)
    problems += schedules.problems(spec)
    status = status_of(PreferenceDatasetStatus, manifest)
    stages = [
        *([status.ingest] if status.ingest else ()),
        *([status.collection.stage] if status.collection else ()),
    ]
    collecting = status.collection.stage if status.collection else None
    about_to_collect = collecting is not None and collecting.state == "Pending" and collecting.job is None
    return ObservedDataset(
        owner=owner,
        settings=settings,
        spec=spec,
        problems=problems,
        status=status,
        jobs=await observe_jobs(api, owner, stages, known.jobs),
        in_use=await revisions_in_use(api, namespace, name) if about_to_collect else None,
    )

"""A refresh of a PreferenceDataset, from nothing to its Job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alignment_api import digests
from alignment_api.dataset import PreferenceDatasetSpec, PreferenceDatasetStatus
from alignment_api.stage import Located, Stage, StageReport, StageResult
from alignment_operator.observed import JobState, JobView, ObservedDataset, PodView
from alignment_operator.plan import dataset
from alignment_operator.planned import StartJob
from tests.operator.edges import SETTINGS, owner

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
FILES = {"uri": "pvc://data/pairs.jsonl"}
SPEC = PreferenceDatasetSpec.from_wire(
    {"store": {"uri": "pvc://data/store"}, "sources": [{"name": "a", "files": FILES}]}
)


def observed(status: PreferenceDatasetStatus) -> ObservedDataset:
    return ObservedDataset(
        owner=owner(name="feedback"), settings=SETTINGS, spec=SPEC, problems=(), status=status, jobs=()
    )


@pytest.mark.parametrize(
    ("counts", "pairs", "unpaired", "said"),
    [
        ({"read": 9, "kept": 8, "unpaired": 3, "invalid": 1}, 5, 3, "5 pairs, 3 unpaired rows"),
        ({"read": 9, "kept": 8, "unpaired": 0, "invalid": 1}, 8, 0, "8 pairs"),
        ({"read": 9, "kept": 8, "invalid": 1}, 8, 0, "8 pairs"),  # a worker that knew pairs alone
    ],
)
def test_a_revision_says_how_many_pairs_and_unpaired_rows_it_has(
    counts: dict[str, int], pairs: int, unpaired: int, said: str
) -> None:
    begun = dataset.plan(observed(PreferenceDatasetStatus()), NOW).status
    started = dataset.plan(observed(begun), NOW)
    (job,) = started.actions
    assert isinstance(job, StartJob)
    digest = digests.of_bytes(b"rows")
    result = StageResult(manifest=Located(uri=job.config.output, digest=digest), counts=counts)
    ended = JobView(
        name=job.name,
        uid="job-1",
        stage=Stage.INGEST,
        iteration=1,
        attempt=job.attempt,
        hash=job.hash,
        state=JobState.SUCCEEDED,
        created_at=NOW,
        pod=PodView(0, StageReport(result=result).encode(), started=True),
    )
    assert started.status.ingest is not None
    ingest = started.status.ingest.model_copy(update={"job": ended.name, "job_uid": ended.uid})
    running = started.status.model_copy(update={"ingest": ingest})
    found = dataset.plan(replace(observed(running), jobs=(ended,)), NOW)
    assert (found.status.pairs, found.status.unpaired) == (pairs, unpaired)
    ready = next(each for each in found.status.conditions if each.type == "Ready")
    assert (ready.reason, ready.message) == ("Ingested", f"{said}, 1 rows set aside")
    assert [event.message for event in found.events] == [f"revision 1: {said}"]


def test_a_refresh_is_in_status_before_its_job_whose_name_no_crash_changes() -> None:
    begun = dataset.plan(observed(PreferenceDatasetStatus()), NOW)
    assert begun.actions == ()
    assert begun.wake_at == NOW
    assert begun.status.ingest is not None
    assert (begun.status.ingest.state, begun.status.ingest_number) == ("Pending", 1)

    made = dataset.plan(observed(begun.status), NOW + timedelta(seconds=1))
    after_a_crash = dataset.plan(observed(begun.status), NOW + timedelta(minutes=5))
    started = [action for plan in (made, after_a_crash) for action in plan.actions]
    assert all(isinstance(action, StartJob) for action in started)
    assert started[0] == started[1]

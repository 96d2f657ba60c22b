"""A refresh of a PreferenceDataset, from nothing to its Job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from alignment_api.dataset import PreferenceDatasetSpec, PreferenceDatasetStatus
from alignment_operator.observed import ObservedDataset
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

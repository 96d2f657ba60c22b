"""A refresh of a PreferenceDataset, from nothing to its Job."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from alignment_api import digests
from alignment_api.curation import Curation
from alignment_api.dataset import PreferenceDatasetSpec, PreferenceDatasetStatus
from alignment_api.pods import PodDefaults
from alignment_api.stage import (
    IngestParameters,
    InputKind,
    Located,
    Stage,
    StageConfig,
    StageReport,
    StageResult,
)
from alignment_api.trigger import Refresh
from alignment_operator.observed import JobState, JobView, ObservedDataset, PodView
from alignment_operator.plan import dataset
from alignment_operator.planned import DatasetPlan, StartJob, SuspendJob
from alignment_operator.render.api_keys import api_keys
from alignment_operator.render.job import render_job
from tests.operator.dataset_world import DatasetWorld, dataset_spec
from tests.operator.edges import SETTINGS, owner

NOW = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
FILES = {"uri": "pvc://data/pairs.jsonl"}
SPEC = PreferenceDatasetSpec.from_wire(
    {"store": {"uri": "pvc://data/store"}, "sources": [{"name": "a", "files": FILES}]}
)


def observed(status: PreferenceDatasetStatus, spec: PreferenceDatasetSpec = SPEC) -> ObservedDataset:
    return ObservedDataset(
        owner=owner(name="feedback"), settings=SETTINGS, spec=spec, problems=(), status=status, jobs=()
    )


def job_view(job: StartJob, state: JobState, pod: PodView) -> JobView:
    """The Job that a pass has started."""
    return JobView(
        name=job.name,
        uid="job-1",
        stage=Stage.INGEST,
        iteration=job.config.iteration,
        attempt=job.attempt,
        hash=job.hash,
        state=state,
        created_at=NOW,
        pod=pod,
    )


def refreshed(
    counts: dict[str, int],
    status: PreferenceDatasetStatus | None = None,
    content: bytes = b"rows",
    spec: PreferenceDatasetSpec = SPEC,
) -> tuple[DatasetPlan, StageConfig]:
    """What the pass plans that sees a refresh's Job succeed, and the config of that Job."""
    begun = dataset.plan(observed(status or PreferenceDatasetStatus(), spec), NOW).status
    started = dataset.plan(observed(begun, spec), NOW)
    (job,) = started.actions
    assert isinstance(job, StartJob)
    result = StageResult(
        manifest=Located(uri=job.config.output, digest=digests.of_bytes(content)), counts=counts
    )
    ended = job_view(job, JobState.SUCCEEDED, PodView(0, StageReport(result=result).encode(), started=True))
    assert started.status.ingest is not None
    ingest = started.status.ingest.model_copy(update={"job": ended.name, "job_uid": ended.uid})
    running = started.status.model_copy(update={"ingest": ingest})
    return dataset.plan(replace(observed(running, spec), jobs=(ended,)), NOW), job.config


def again(status: PreferenceDatasetStatus) -> PreferenceDatasetStatus:
    """As if the spec had changed, so that a refresh is asked for."""
    return status.model_copy(update={"ingest_generation": 0})


def ready_of(status: PreferenceDatasetStatus) -> tuple[str, str]:
    ready = next(each for each in status.conditions if each.type == "Ready")
    return ready.status, ready.reason


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
    found, _ = refreshed(counts)
    assert (found.status.pairs, found.status.unpaired) == (pairs, unpaired)
    ready = next(each for each in found.status.conditions if each.type == "Ready")
    assert (ready.reason, ready.message) == ("Ingested", f"{said}, 1 rows left out")
    assert [event.message for event in found.events] == [f"revision 1: {said}"]


COUNTS = {"read": 12, "kept": 10, "invalid": 1, "duplicate": 1, "sequence": 10, "source/a": 10}


def test_a_refresh_goes_on_from_the_revision_in_force() -> None:
    first, config = refreshed(COUNTS)
    assert "base" not in config.inputs
    assert first.status.revision is not None
    second, config = refreshed(COUNTS | {"kept": 11, "sequence": 11}, again(first.status), b"more")
    base = config.inputs["base"]
    assert (base.uri, base.digest) == (first.status.revision.uri, first.status.revision.digest)
    assert second.status.revision is not None
    assert (second.status.revision.number, second.status.revision.sequence) == (2, 11)
    assert second.status.revisions == [first.status.revision]
    assert second.status.statistics is not None
    assert second.status.statistics.by_source == {"a": 10}


def test_length_is_told_by_source_and_model() -> None:
    model = digests.of_bytes(b"model")
    seen = {f"model/{model}": 4, f"longer/model/{model}": 1, f"shorter/model/{model}": 3}
    seen |= {"longer/source/a": 2, "shorter/source/a": 1, "pii/Email": 5}
    told = refreshed(COUNTS | seen)[0].status.statistics
    assert told is not None
    assert (told.by_model, told.longer_chosen_percent_by_model) == ({model: 4}, {model: 25.0})
    assert (told.longer_chosen_percent_by_source, told.by_source) == ({"a": 66.7}, {"a": 10})
    assert told.pii == {"Email": 5}


def test_a_refresh_that_finds_the_same_makes_no_revision() -> None:
    first, _ = refreshed(COUNTS)
    same, _ = refreshed(COUNTS, again(first.status))
    assert same.status.revision == first.status.revision
    assert same.status.revisions == []


def test_a_refresh_has_the_number_that_the_status_knows_whatever_jobs_are_there() -> None:
    """By a number that the store has already, the worker sees that the status was put back from a backup."""
    status = refreshed(COUNTS)[0].status
    pod = PodView(0, "", started=True)
    old = StartJob("feedback-7-ingest-0-abcdef", "f" * 64, refreshed(COUNTS)[1], 0, PodDefaults())
    stray = replace(job_view(old, JobState.SUCCEEDED, pod), iteration=7)
    begun = dataset.plan(replace(observed(again(status)), jobs=(stray,)), NOW).status
    assert begun.ingest_number == 2


def test_no_more_than_twenty_revisions_are_remembered() -> None:
    status = PreferenceDatasetStatus()
    for number in range(23):
        status = again(refreshed(COUNTS, status, str(number).encode())[0].status)
    assert [revision.number for revision in status.revisions] == [*range(22, 2, -1)]


@pytest.mark.parametrize(
    ("longer", "shorter", "reason"),
    [(71, 29, "LengthBiased"), (70, 30, "Ingested"), (0, 0, "Ingested"), (1, 0, "LengthBiased")],
)
def test_what_would_teach_length_is_not_taken(longer: int, shorter: int, reason: str) -> None:
    limited = SPEC.model_copy(update={"curation": Curation(max_longer_chosen_percent=70)})
    before, _ = refreshed(COUNTS, spec=limited)
    assert ready_of(before.status) == ("True", "Ingested")
    counts = COUNTS | {"kept": 100, "longerChosen": longer, "shorterChosen": shorter}
    after, _ = refreshed(counts, again(before.status), b"biased", limited)
    taken = reason == "Ingested"
    assert ready_of(after.status) == (str(taken), reason)
    assert (after.status.revision == before.status.revision) != taken
    assert after.status.pairs == (100 if taken else 10)
    assert [event.warning for event in after.events] == [not taken]


def test_a_job_is_told_how_to_read_and_what_to_leave_out() -> None:
    spec = PreferenceDatasetSpec.from_wire(
        {
            "store": {"uri": "pvc://data/store"},
            "sources": [
                {"name": "z", "files": FILES | {"format": "Ranked", "columns": {"q": "prompt"}}},
                {"name": "a", "files": FILES},
            ],
            "curation": {
                "pii": {},
                "conflicts": "KeepLatest",
                "maxPairsPerSource": 7,
                "contamination": {"goldSets": ["pvc://data/gold.jsonl"], "minSimilarityPercent": 91},
                "deduplicate": {"similarityPercent": 96},
                "embedding": {"model": "pvc://data/minilm"},
            },
        }
    )
    _, config = refreshed(COUNTS, spec=spec)
    assert config.inputs["goldSet/0"].uri == "pvc://data/gold.jsonl"
    assert isinstance(config.parameters, IngestParameters)
    assert [source.name for source in config.parameters.sources] == ["z", "a"]
    assert (files := config.parameters.sources[0].files) is not None
    assert files.to_wire() == {"format": "Ranked", "columns": {"q": "prompt"}}
    assert (config.parameters.conflicts, config.parameters.max_pairs_per_source) == ("KeepLatest", 7)
    assert config.inputs["embedding"].uri == "pvc://data/minilm"
    assert config.parameters.similarity_percent == 96
    assert config.parameters.near_gold_percent == 91
    assert config.parameters.pii == "Drop"


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


SCHEDULED = SPEC.model_copy(update={"refresh": Refresh(schedule="0 * * * *")})
MINUTE = timedelta(minutes=1)


def planned(
    status: PreferenceDatasetStatus, now: datetime, spec: PreferenceDatasetSpec = SCHEDULED
) -> DatasetPlan:
    return dataset.plan(observed(status, spec), now)


def test_a_schedule_announces_its_next_slot_and_starts_then() -> None:
    idle = refreshed(COUNTS, spec=SCHEDULED)[0].status
    found = planned(idle, NOW + MINUTE)
    assert (found.status.next_refresh_at, found.actions) == ("2026-11-23T04:00:00Z", ())
    assert found.wake_at == NOW + 60 * MINUTE
    begun = planned(found.status, NOW + 60 * MINUTE)
    assert (begun.status.ingest_number, begun.status.next_refresh_at) == (2, "2026-11-23T05:00:00Z")
    assert planned(begun.status, NOW + 60 * MINUTE).status.ingest_number == 2


def test_of_missed_slots_one_is_caught_up() -> None:
    idle = planned(refreshed(COUNTS, spec=SCHEDULED)[0].status, NOW + MINUTE).status
    late = NOW + 300 * MINUTE + MINUTE
    begun = planned(idle, late)
    assert (begun.status.ingest_number, begun.status.next_refresh_at) == (2, "2026-11-23T09:00:00Z")


def test_a_new_schedule_does_not_start_for_a_slot_of_the_past() -> None:
    idle = refreshed(COUNTS)[0].status
    found = planned(idle, NOW + 90 * MINUTE)
    assert (found.status.ingest_number, found.status.next_refresh_at) == (1, "2026-11-23T05:00:00Z")


def test_without_a_schedule_no_slot_is_left() -> None:
    idle = planned(refreshed(COUNTS, spec=SCHEDULED)[0].status, NOW + MINUTE).status
    found = planned(idle, NOW + 300 * MINUTE, SPEC)
    assert (found.status.ingest_number, found.status.next_refresh_at) == (1, None)


def test_a_slot_that_comes_while_a_refresh_runs_starts_the_next_one() -> None:
    found = refreshed(COUNTS, spec=SCHEDULED)[0]
    assert found.status.next_refresh_at == "2026-11-23T04:00:00Z"
    assert found.wake_at is not None
    assert planned(found.status, NOW + 61 * MINUTE).status.ingest_number == 2


def test_between_refreshes_that_take_longer_than_the_schedules_step_a_cycle_finds_it_ready() -> None:
    world = DatasetWorld(spec=dataset_spec(refresh={"schedule": "* * * * *"}))
    for _ in range(2):
        world.pass_()
        world.pass_()
        world.now += 5 * MINUTE
        world.work(Stage.INGEST)
        world.pass_()
        world.now += MINUTE / 2
        plan = world.pass_()
        ready = next(each for each in plan.status.conditions if each.type == "Ready")
        assert (ready.status, plan.wake_at) == ("True", world.now + MINUTE / 2)
        world.now += MINUTE / 2
    assert world.pass_().status.ingest_number == 3


def test_where_nobody_heeds_triggers_nothing_is_due() -> None:
    idle = planned(refreshed(COUNTS, spec=SCHEDULED)[0].status, NOW + MINUTE).status
    deaf = replace(observed(idle, SCHEDULED), settings=replace(SETTINGS, heed_triggers=False))
    assert dataset.plan(deaf, NOW + 300 * MINUTE).status.ingest_number == 1


def test_each_source_says_how_it_is_read() -> None:
    spec = PreferenceDatasetSpec.from_wire(
        {
            "store": {"uri": "pvc://data/store"},
            "sources": [
                {
                    "name": "log",
                    "inferenceLog": {"uri": "pvc://logs/x", "format": "LiteLLM", "feedback": False},
                },
                {
                    "name": "people",
                    "labelStudio": {
                        "url": "http://studio",
                        "projectID": 3,
                        "tokenSecretRef": {"name": "studio", "key": "token"},
                        "pushPairs": 5,
                    },
                },
            ],
        }
    )
    _, config = refreshed(COUNTS, spec=spec)
    assert {role: entry.kind for role, entry in config.inputs.items()} == {
        "source/log": InputKind.INFERENCE_LOG
    }
    assert isinstance(config.parameters, IngestParameters)
    log, people = config.parameters.sources
    assert log.inference_log is not None
    assert (log.inference_log.format, log.inference_log.feedback, log.inference_log.sample_percent) == (
        "LiteLLM",
        False,
        100.0,
    )
    assert people.label_studio is not None
    assert (people.label_studio.project, people.label_studio.push_pairs) == (3, 5)
    assert api_keys(config) == [
        {
            "name": "ALIGNMENT_SOURCE_1_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": "studio", "key": "token"}},
        }
    ]


def test_the_keys_for_a_bucket_are_the_job_s_under_a_prefix_of_their_source() -> None:
    spec = PreferenceDatasetSpec.from_wire(
        {
            "store": {"uri": "pvc://models/datasets"},
            "sources": [
                {"name": "mine", "files": {"uri": "pvc://models/p.jsonl"}},
                {
                    "name": "theirs",
                    "files": {"uri": "s3://b/*.jsonl", "credentialsSecretRef": {"name": "theirs"}},
                },
                {
                    "name": "log",
                    "inferenceLog": {
                        "uri": "gs://logs/support",
                        "format": "OpenAI",
                        "credentialsSecretRef": {"name": "ours"},
                    },
                },
            ],
        }
    )
    begun = dataset.plan(observed(PreferenceDatasetStatus(), spec), NOW).status
    (start,) = dataset.plan(observed(begun, spec), NOW).actions
    assert isinstance(start, StartJob)
    pod = render_job(owner(name="feedback"), start, SETTINGS)["spec"]["template"]["spec"]
    assert pod["containers"][0]["envFrom"] == [
        {"prefix": "ALIGNMENT_SOURCE_1_", "secretRef": {"name": "theirs"}},
        {"prefix": "ALIGNMENT_SOURCE_2_", "secretRef": {"name": "ours"}},
    ]
    claims = [
        each["persistentVolumeClaim"]["claimName"]
        for each in pod["volumes"]
        if "persistentVolumeClaim" in each
    ]
    assert claims == ["models"]


SUSPENDED = SPEC.model_copy(update={"suspend": True})


def edited(
    status: PreferenceDatasetStatus, spec: PreferenceDatasetSpec, jobs: tuple[JobView, ...] = ()
) -> DatasetPlan:
    """As an edit of the spec is seen, which makes another generation of it."""
    seen = replace(observed(status, spec), jobs=jobs)
    return dataset.plan(replace(seen, owner=replace(seen.owner, generation=seen.owner.generation + 1)), NOW)


def test_a_suspended_dataset_keeps_its_revision_and_refreshes_when_it_goes_on() -> None:
    idle = refreshed(COUNTS)[0].status
    held = edited(idle, SUSPENDED)
    assert (held.actions, held.status.ingest_number) == ((), 1)
    assert ready_of(held.status) == ("True", "Suspended")
    assert [event.reason for event in held.events] == ["Suspended"]
    going_on = edited(held.status, SPEC)
    assert going_on.status.ingest_number == 2
    assert [event.reason for event in going_on.events] == ["Resumed"]


def test_a_suspended_dataset_without_a_revision_is_not_ready() -> None:
    assert ready_of(edited(PreferenceDatasetStatus(), SUSPENDED).status) == ("False", "Suspended")


def test_the_running_refresh_is_suspended_and_goes_on_with_the_same_job() -> None:
    begun = dataset.plan(observed(PreferenceDatasetStatus()), NOW).status
    started = dataset.plan(observed(begun), NOW)
    (job,) = started.actions
    assert isinstance(job, StartJob)
    assert started.status.ingest is not None
    ingest = started.status.ingest.model_copy(
        update={"job": job.name, "job_uid": "job-1", "state": "Running"}
    )
    running = started.status.model_copy(update={"ingest": ingest})
    view = job_view(job, JobState.ACTIVE, PodView(started=True))
    held = edited(running, SUSPENDED, (view,))
    assert held.actions == (SuspendJob(job.name, "job-1", suspend=True),)
    assert held.status.ingest is not None
    assert (held.status.ingest.state, held.status.ingest.reason) == ("Pending", "Suspended")
    going_on = edited(held.status, SPEC, (replace(view, suspended=True),))
    assert SuspendJob(job.name, "job-1", suspend=False) in going_on.actions
    assert not [action for action in going_on.actions if isinstance(action, StartJob)]


def test_a_slot_that_comes_while_it_is_suspended_is_due_when_it_goes_on() -> None:
    idle = planned(refreshed(COUNTS, spec=SCHEDULED)[0].status, NOW + MINUTE).status
    held = SCHEDULED.model_copy(update={"suspend": True})
    waiting = planned(idle, NOW + 90 * MINUTE, held)
    assert (waiting.status.ingest_number, waiting.wake_at) == (1, None)
    assert waiting.status.next_refresh_at == "2026-11-23T04:00:00Z"
    assert planned(waiting.status, NOW + 95 * MINUTE).status.ingest_number == 2


def test_a_revision_says_how_many_pairs_there_ever_were() -> None:
    status = refreshed({**COUNTS, "pairsEver": 12, "unpairedEver": 3})[0].status
    assert status.revision is not None
    assert (status.revision.pairs_ever, status.revision.unpaired_ever) == (12, 3)

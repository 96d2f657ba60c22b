"""What a status, and a change of it, make of the metrics."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiohttp.test_utils import make_mocked_request
from prometheus_client.parser import text_string_to_metric_families

from alignment_api.cycle_status import AlignmentCycleStatus, Iteration, StageStatus
from alignment_api.dataset import PreferenceDatasetStatus
from alignment_api.stage import Stage
from alignment_operator.api import CYCLE, DATASET, ConflictError, Manifest
from alignment_operator.metrics import gauges, transitions
from alignment_operator.runtime.controller import Key
from alignment_operator.runtime.metrics import Live, Metrics
from tests.api.statuses import CYCLE_STATUS, DATASET_STATUS

START, END = "2026-11-23T03:00:00Z", "2026-11-23T03:01:30Z"
SUPPORT = Key(CYCLE, "team", "support")
Found = dict[tuple[str, ...], float]


def manifest(status: Any, name: str = "support") -> Manifest:
    return {"metadata": {"name": name, "namespace": "team"}, "spec": {}, "status": status}


def scraped(metrics: Metrics) -> Found:
    """By the metric's name and label values; what did not happen is left out."""
    body = asyncio.run(metrics.serve(make_mocked_request("GET", "/metrics"))).body
    assert isinstance(body, bytes)
    families = text_string_to_metric_families(body.decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if sample.value
    }


def of(found: Found, prefix: str) -> Found:
    return {key: value for key, value in found.items() if key[0].startswith(prefix)}


def new_metrics() -> Metrics:
    return Metrics("0.1.0", lambda: Live(3, 1.5, {"jobs": 7.0}))


def running(**stage: Any) -> AlignmentCycleStatus:
    entry = StageStatus(**{"name": Stage.TRAIN, "state": "Running", "started_at": START} | stage)
    iteration = Iteration(
        number=7, trigger="Manual", generation=1, revision="support-7", started_at=START, stages=[entry]
    )
    return AlignmentCycleStatus(iteration=iteration)


def ended(outcome: str, **stage: Any) -> AlignmentCycleStatus:
    status = running(**stage)
    assert status.iteration is not None
    iteration = status.iteration.model_copy(update={"outcome": outcome, "finished_at": END})
    return status.model_copy(update={"iteration": iteration})


def counted(before: AlignmentCycleStatus, after: AlignmentCycleStatus) -> Found:
    return {(name, *labels): value for name, labels, value in transitions.of_cycle(before, after)}


def test_a_cycles_gauges_are_its_status() -> None:
    found = {
        (name, *labels): value for name, labels, value in gauges.of_cycle(manifest(CYCLE_STATUS.to_wire()))
    }
    assert found["alignment_cycle_iteration",] == 7
    assert found["alignment_cycle_promoted_iteration",] == 7
    assert found["alignment_cycle_promoted_timestamp_seconds",] == 1795410729
    assert found["alignment_cycle_ended_iteration", "Rejected", "LengthDrift"] == 6
    assert found["alignment_cycle_unpromoted_iterations",] == 1
    assert found["alignment_gate_verdict", "lengthDrift", "Failed"] == 1
    assert found["alignment_gate_measurement", "goldSet", "reasoning", "low"] == -1.125
    assert found["alignment_gate_limit", "goldSet"] == -1
    assert found["alignment_cycle_stage_progress_ratio", "evaluate"] == 512 / 900


def test_a_datasets_gauges_are_its_status() -> None:
    found = {
        (name, *labels): value
        for name, labels, value in gauges.of_dataset(manifest(DATASET_STATUS.to_wire()))
    }
    assert found["alignment_dataset_ready",] == 1
    assert found["alignment_dataset_pairs",] == 9362
    assert found["alignment_dataset_unpaired_rows",] == 100


def test_new_pairs_and_the_next_run_are_told() -> None:
    status = {"datasets": [{"name": "feedback", "newPairs": 112}], "nextRunAt": START}
    spec = {"trigger": {"newPairs": 500}}
    found = {
        (name, *labels): value for name, labels, value in gauges.of_cycle({"spec": spec, "status": status})
    }
    assert found == {
        ("alignment_cycle_new_pairs", "feedback"): 112,
        ("alignment_cycle_new_pairs_required",): 500,
        ("alignment_cycle_next_run_timestamp_seconds",): 1795402800,
    }


def test_iterations_without_promotion_are_counted_back_to_the_last_one() -> None:
    outcomes = ["Failed", "Cancelled", "Rejected", "Promoted", "Rejected"]
    history = [{"number": 9 - n, "outcome": outcome, "reason": "x"} for n, outcome in enumerate(outcomes)]
    found = {sample.metric: sample.value for sample in gauges.of_cycle(manifest({"history": history}))}
    assert found["alignment_cycle_unpromoted_iterations"] == 2


def test_what_nobody_wrote_as_we_do_makes_no_series() -> None:
    odd = {
        "conditions": [3, {"type": "Stalled", "status": "Maybe"}],
        "iteration": {"number": "seven", "startedAt": "yesterday", "stages": {}, "gates": [None]},
        "history": "none",
        "promoted": [],
        "nextRunAt": None,
    }
    assert gauges.of_cycle(manifest(odd)) == ()
    assert gauges.of_cycle({"status": None}) == ()


def test_a_reason_of_a_workers_own_makes_no_series_of_its_own() -> None:
    after = ended("Failed", state="Failed", reason="Made-Up-4711", finished_at=END)
    assert counted(running(), after)["alignment_stage_failures_total", "train", "Other"] == 1


def test_a_stage_is_counted_when_it_ends_and_an_iteration_when_it_does() -> None:
    found = counted(running(), ended("Promoted", state="Succeeded", finished_at=END))
    assert found == {
        ("alignment_stage_duration_seconds", "train", "Succeeded"): 90,
        ("alignment_iterations_total", "Promoted"): 1,
        ("alignment_iteration_duration_seconds", "Promoted"): 90,
    }


def test_the_same_status_again_counts_nothing() -> None:
    for status in (running(), ended("Failed", state="Failed", finished_at=END), CYCLE_STATUS):
        assert counted(status, status) == {}


def test_retries_are_pods_and_jobs_that_were_replaced_and_disruptions_are_not() -> None:
    pods = counted(running(job_uid="a", retries=1), running(job_uid="a", retries=3))
    assert pods == {("alignment_stage_retries_total", "train"): 2}
    attempts = counted(running(attempt=1, disruptions=1), running(attempt=3, disruptions=2))
    assert attempts == {
        ("alignment_stage_retries_total", "train"): 1,
        ("alignment_stage_disruptions_total", "train"): 1,
    }


def test_verdicts_are_counted_once_a_candidate() -> None:
    assert CYCLE_STATUS.iteration is not None
    bare = CYCLE_STATUS.model_copy(
        update={"iteration": CYCLE_STATUS.iteration.model_copy(update={"gates": []})}
    )
    found = counted(bare, CYCLE_STATUS)
    assert of(found, "alignment_gate") == {
        ("alignment_gate_verdicts_total", "goldSet", "Passed"): 1,
        ("alignment_gate_verdicts_total", "lengthDrift", "Failed"): 1,
    }


def test_a_refresh_counts_as_a_stage() -> None:
    before = PreferenceDatasetStatus(
        ingest_number=12, ingest=StageStatus(name=Stage.INGEST, state="Running", started_at=START)
    )
    found = {(name, *labels) for name, labels, _ in transitions.of_dataset(before, DATASET_STATUS)}
    assert ("alignment_stage_duration_seconds", "ingest", "Succeeded") in found


def test_hearing_of_what_was_counted_before_a_restart_counts_nothing() -> None:
    metrics = new_metrics()
    metrics.heard(CYCLE, manifest(CYCLE_STATUS.to_wire()))
    metrics.heard(DATASET, manifest(DATASET_STATUS.to_wire()))
    assert of(scraped(metrics), "alignment_iterations") == {}
    assert of(scraped(metrics), "alignment_stage") == {}


def test_a_written_status_is_counted() -> None:
    metrics = new_metrics()
    metrics.written(SUPPORT, (running(), ended("Promoted", state="Succeeded", finished_at=END)))
    assert scraped(metrics)["alignment_iterations_total", "Promoted"] == 1


def test_missed_slots_are_counted_by_cycle_from_zero() -> None:
    metrics = new_metrics()
    scheduled = manifest({"nextRunAt": START})
    metrics.heard(CYCLE, scheduled)
    metrics.written(SUPPORT, (running(), running()), ["ScheduleMissed"])
    metrics.heard(CYCLE, manifest({"nextRunAt": START}, "punctual"))
    body = asyncio.run(metrics.serve(make_mocked_request("GET", "/metrics"))).body
    assert isinstance(body, bytes)
    for name, count in (("support", 1.0), ("punctual", 0.0)):
        series = f'alignment_cycle_schedules_missed_total{{cycle="{name}",namespace="team"}} {count}'
        assert series.encode() in body
    metrics.forget(SUPPORT)
    assert ("alignment_cycle_schedules_missed_total", "support", "team") not in scraped(metrics)


def test_series_of_an_object_go_with_it() -> None:
    metrics = new_metrics()
    metrics.heard(CYCLE, manifest(CYCLE_STATUS.to_wire()))
    metrics.heard(CYCLE, manifest({"conditions": [{"type": "Stalled", "status": "True"}]}, "other"))
    assert of(scraped(metrics), "alignment_cycles") == {
        ("alignment_cycles",): 2,
        ("alignment_cycles_by_condition", "Stalled"): 1,
    }
    metrics.forget(SUPPORT)
    metrics.forget(SUPPORT)
    left = scraped(metrics)
    assert [key for key in left if "support" in key] == []
    assert left["alignment_cycle_condition", "Stalled", "other", "team"] == 1


def test_passes_and_their_errors_are_told_by_kind() -> None:
    metrics = new_metrics()
    metrics.reconciled(SUPPORT, 0.2, None)
    metrics.reconciled(SUPPORT, 0.2, ConflictError())
    found = scraped(metrics)
    assert found["alignment_reconcile_duration_seconds_count", "AlignmentCycle"] == 2
    assert found["alignment_reconcile_errors_total", "ConflictError", "AlignmentCycle"] == 1
    assert found["alignment_queue_depth",] == 3
    assert found["alignment_watch_heard_timestamp_seconds", "jobs"] == 7


def test_every_metric_is_in_the_documentation_and_the_other_way_round() -> None:
    metrics = new_metrics()
    body = asyncio.run(metrics.serve(make_mocked_request("GET", "/metrics"))).body
    assert isinstance(body, bytes)
    told = {line.split()[2] for line in body.decode().splitlines() if line.startswith("# TYPE alignment_")}
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    listed = {
        cell.strip("` ")
        for line in page.splitlines()
        if line.startswith("| `")
        for cell in [line.split("|")[1]]
    }
    assert {name for name in listed if not name.startswith("alignment_worker")} == told

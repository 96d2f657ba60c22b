"""A status write → what is counted for it.

Counted is what this operator wrote, not what it heard: a restart hears everything again, and would count it twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from alignment_api.cycle_status import AlignmentCycleStatus, Iteration, StageStatus
from alignment_api.dataset import PreferenceDatasetStatus
from alignment_operator.metrics.definitions import Sample, bounded

_OVER = {"Succeeded", "Failed"}


def of_cycle(before: AlignmentCycleStatus, after: AlignmentCycleStatus) -> Iterator[Sample]:
    """What to add to counters, and to observe in histograms."""
    new = after.iteration
    if new is None:
        return
    old = before.iteration if before.iteration and before.iteration.number == new.number else None
    if old is None:
        yield Sample("alignment_iterations_started_total", (new.trigger,), 1)
    known = {stage.name: stage for stage in old.stages} if old else {}
    for stage in new.stages:
        yield from _stage(known.get(stage.name), stage)
    if new.gates and not (old and old.gates):
        for gate in new.gates:
            yield Sample("alignment_gate_verdicts_total", (gate.name.value, gate.verdict.value), 1)
    if new.outcome and not (old and old.outcome):
        yield from _ended(new, new.outcome)


def of_dataset(before: PreferenceDatasetStatus, after: PreferenceDatasetStatus) -> Iterator[Sample]:
    """The same of a refresh."""
    if after.ingest is not None:
        same = before.ingest_number == after.ingest_number
        yield from _stage(before.ingest if same else None, after.ingest)


def _ended(iteration: Iteration, outcome: str) -> Iterator[Sample]:
    yield Sample("alignment_iterations_total", (outcome,), 1)
    seconds = _seconds(iteration.started_at, iteration.finished_at)
    yield Sample("alignment_iteration_duration_seconds", (outcome,), seconds)


def _stage(old: StageStatus | None, new: StageStatus) -> Iterator[Sample]:
    name = (new.name.value,)
    disruptions = new.disruptions - (old.disruptions if old else 0)
    attempts = new.attempt - (old.attempt if old else 0)
    pods = new.retries - (old.retries if old and old.job_uid == new.job_uid else 0)
    if disruptions > 0:
        yield Sample("alignment_stage_disruptions_total", name, disruptions)
    if (retries := max(0, attempts - disruptions) + max(0, pods)) > 0:
        yield Sample("alignment_stage_retries_total", name, retries)
    if new.state not in _OVER or (old and old.state in _OVER):
        return
    if new.state == "Failed":
        yield Sample("alignment_stage_failures_total", (*name, bounded(new.reason or "")), 1)
    seconds = _seconds(new.started_at, new.finished_at)
    yield Sample("alignment_stage_duration_seconds", (*name, new.state), seconds)


def _seconds(start: str | None, end: str | None) -> float:
    """0 for what never began."""
    if start is None or end is None:
        return 0.0
    return max(0.0, (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds())

"""An object as it is now → its gauges. They go when the object goes, and survive a restart, for they are its status."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import takewhile
from sys import intern
from typing import Any

from alignment_operator.api import Manifest
from alignment_operator.metrics.definitions import Sample, bounded

# What is told of a condition, and when. The others are told by what they are about.
_TOLD = {
    ("Ready", "False"): "NotReady",
    ("Iterating", "True"): "Iterating",
    ("Stalled", "True"): "Stalled",
    ("WaitingForApproval", "True"): "WaitingForApproval",
    ("Suspended", "True"): "Suspended",
    ("TargetsSynced", "False"): "TargetsNotSynced",
}
CONDITIONS = tuple(_TOLD.values())


def of_cycle(manifest: Manifest) -> tuple[Sample, ...]:
    """Of an AlignmentCycle as the API server has it; fields that are missing or odd are passed over."""
    status, spec = _object(manifest.get("status")), _object(manifest.get("spec"))
    iteration, promoted = _object(status.get("iteration")), _object(status.get("promoted"))
    return (
        *_conditions(status),
        *_number("alignment_cycle_iteration", iteration.get("number")),
        *_time("alignment_cycle_iteration_started_timestamp_seconds", iteration.get("startedAt")),
        *_ended(_objects(status.get("history"))),
        *_number("alignment_cycle_promoted_iteration", promoted.get("iteration")),
        *_time("alignment_cycle_promoted_timestamp_seconds", promoted.get("at")),
        *_new_pairs(status, spec),
        *_time("alignment_cycle_next_run_timestamp_seconds", status.get("nextRunAt")),
        *_progress(_objects(iteration.get("stages"))),
        *_gates(_objects(iteration.get("gates"))),
    )


def of_dataset(manifest: Manifest) -> tuple[Sample, ...]:
    """The same of a PreferenceDataset."""
    status = _object(manifest.get("status"))
    ready = any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in _objects(status.get("conditions"))
    )
    return (
        Sample("alignment_dataset_ready", (), float(ready)),
        *_number("alignment_dataset_pairs", status.get("pairs")),
        *_number("alignment_dataset_unpaired_rows", status.get("unpaired")),
        *_time("alignment_dataset_revision_timestamp_seconds", _object(status.get("revision")).get("at")),
    )


def _conditions(status: Mapping[str, Any]) -> Iterator[Sample]:
    for condition in _objects(status.get("conditions")):
        told = _TOLD.get((str(condition.get("type")), str(condition.get("status"))))
        if told:
            yield Sample("alignment_cycle_condition", (told,), 1.0)


def _ended(history: list[Mapping[str, Any]]) -> Iterator[Sample]:
    """Of status.history, the newest first."""
    decided = [row for row in history if row.get("outcome") != "Cancelled"]
    blocked = sum(1 for _ in takewhile(lambda row: row.get("outcome") != "Promoted", decided))
    if history:
        yield Sample("alignment_cycle_unpromoted_iterations", (), float(blocked))
        last = history[0]
        labels = (str(last.get("outcome")), bounded(str(last.get("reason"))))
        yield from _number("alignment_cycle_ended_iteration", last.get("number"), labels)


def _new_pairs(status: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[Sample]:
    for dataset in _objects(status.get("datasets")):
        name = str(dataset.get("name"))
        yield from _number("alignment_cycle_new_pairs", dataset.get("newPairs"), (name,))
    required = _object(spec.get("trigger")).get("newPairs")
    yield from _number("alignment_cycle_new_pairs_required", required)


def _progress(stages: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    for stage in stages:
        progress = _object(stage.get("progress"))
        done, total = progress.get("done"), progress.get("total")
        if isinstance(done, int) and isinstance(total, int) and total > 0:
            ratio = min(1.0, done / total)
            yield Sample("alignment_cycle_stage_progress_ratio", (str(stage.get("name")),), ratio)


def _gates(gates: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    for gate in gates:
        name = _shared(gate.get("name"))
        yield Sample("alignment_gate_verdict", (name, _shared(gate.get("verdict"))), 1.0)
        yield from _number("alignment_gate_limit", gate.get("limit"), (name,))
        for measurement, value in _object(gate.get("measurements")).items():
            for bound in ("estimate", "low", "high"):
                labels = (name, _shared(measurement), bound)
                yield from _number("alignment_gate_measurement", _object(value).get(bound), labels)


def _shared(text: object) -> str:
    """Ten thousand cycles have a dozen names of gates and measurements."""
    return intern(str(text))


def _number(metric: str, value: object, labels: tuple[str, ...] = ()) -> Iterator[Sample]:
    if isinstance(value, int | float):
        yield Sample(metric, labels, float(value))


def _time(metric: str, value: object) -> Iterator[Sample]:
    """Seconds since 1970 of an RFC 3339 time."""
    try:
        yield Sample(metric, (), datetime.fromisoformat(str(value)).timestamp())
    except ValueError:
        return


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []

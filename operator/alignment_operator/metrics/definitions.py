"""Every series that the operator derives from its objects: names, labels and what they mean.

Names follow https://prometheus.io/docs/practices/naming/. Labels are bounded by what the API bounds: the objects that
there are, the stages, gates, outcomes and reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from alignment_api.conditions import Reason
from alignment_api.gates import GateReason
from alignment_api.stage import ExitCode

_WORKER_REASONS = ("Interrupted", "StoreFull", "Crashed")
_REASONS = frozenset(
    [*map(str, Reason), *map(str, GateReason), *(code.reason for code in ExitCode), *_WORKER_REASONS]
)


class Sample(NamedTuple):
    """A value of one series: the name of its metric and its label values, without those of the object."""

    metric: str
    labels: tuple[str, ...]
    value: float


@dataclass(frozen=True)
class Metric:
    """`labels` of a gauge come after those that name its object (`namespace`, and `cycle` or `dataset`)."""

    help: str
    labels: tuple[str, ...] = ()


CYCLE_GAUGES = {
    "alignment_cycle_condition": Metric("1 while the condition holds of the cycle.", ("condition",)),
    "alignment_cycle_iteration": Metric("Number of the running iteration, or of the last."),
    "alignment_cycle_iteration_started_timestamp_seconds": Metric("When that iteration started."),
    "alignment_cycle_ended_iteration": Metric(
        "Number of the iteration that ended last.", ("outcome", "reason")
    ),
    "alignment_cycle_unpromoted_iterations": Metric(
        "Iterations in a row that ended without a promotion; cancelled ones are passed over."
    ),
    "alignment_cycle_promoted_iteration": Metric("The iteration whose model is promoted; 0 is M_0."),
    "alignment_cycle_promoted_timestamp_seconds": Metric("When that model was promoted."),
    "alignment_cycle_new_pairs": Metric(
        "Pairs of the dataset outside the incumbent's lineage.", ("dataset",)
    ),
    "alignment_cycle_new_pairs_required": Metric(
        "New pairs that start an iteration (spec.trigger.newPairs)."
    ),
    "alignment_cycle_next_run_timestamp_seconds": Metric("When the schedule starts the next iteration."),
    "alignment_cycle_stage_progress_ratio": Metric(
        "Share of the running stage that is done, from 0 to 1.", ("stage",)
    ),
    "alignment_gate_verdict": Metric(
        "1 for the verdict of the gate on the candidate of the current iteration.", ("gate", "verdict")
    ),
    "alignment_gate_measurement": Metric(
        "What the gate measured, in the measurement's unit; bound is estimate, low or high.",
        ("gate", "measurement", "bound"),
    ),
    "alignment_gate_limit": Metric("What the gate compared with, in the measurement's unit.", ("gate",)),
}

DATASET_GAUGES = {
    "alignment_dataset_ready": Metric("1 if the dataset is Ready, else 0."),
    "alignment_dataset_pairs": Metric("Pairs in the newest revision."),
    "alignment_dataset_unpaired_rows": Metric("Unpaired rows in the newest revision."),
    "alignment_dataset_revision_timestamp_seconds": Metric("When the newest revision was made."),
}

COUNTERS = {
    "alignment_iterations_started_total": Metric("Iterations started.", ("trigger",)),
    "alignment_iterations_total": Metric("Iterations that ended.", ("outcome",)),
    "alignment_stage_retries_total": Metric(
        "Pods and Jobs of a stage that failed and were replaced.", ("stage",)
    ),
    "alignment_stage_disruptions_total": Metric("Jobs of a stage lost to disruptions.", ("stage",)),
    "alignment_stage_failures_total": Metric("Stages that failed for good.", ("stage", "reason")),
    "alignment_gate_verdicts_total": Metric("Candidates judged.", ("gate", "verdict")),
}

HISTOGRAMS = {
    "alignment_iteration_duration_seconds": Metric(
        "From the start of an iteration to its end.", ("outcome",)
    ),
    "alignment_stage_duration_seconds": Metric(
        "From the first Job of a stage to its end.", ("stage", "state")
    ),
}


def bounded(reason: str) -> str:
    """A reason that this release knows, else `Other`: a worker's report is data, and must not make series."""
    return reason if reason in _REASONS else "Other"

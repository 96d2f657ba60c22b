"""The operator's metrics, in the text format of Prometheus. docs/metrics.md says what each is for."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from alignment_api.conditions import Reason
from alignment_api.cycle_status import AlignmentCycleStatus, Outcome
from alignment_api.dataset import PreferenceDatasetStatus
from alignment_api.gates import Gate, Verdict
from alignment_api.stage import Stage
from alignment_operator.api import CYCLE, DATASET, ConflictError, Kind, Manifest
from alignment_operator.metrics import gauges, transitions
from alignment_operator.metrics.definitions import (
    COUNTERS,
    CYCLE_GAUGES,
    DATASET_GAUGES,
    HISTOGRAMS,
    Metric,
    Sample,
)
from alignment_operator.reconcile import Change

_PASS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_STAGE_SECONDS = (5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800, 86400, 172800)


class Key(Protocol):
    """What a pass is about, as the controller's keys have it."""

    @property
    def kind(self) -> Kind: ...

    @property
    def namespace(self) -> str: ...

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Live:
    """What is asked for anew at every scrape. `heard` is by resource, in seconds since 1970."""

    queue_depth: int
    oldest_seconds: float
    heard: Mapping[str, float]


class Metrics:
    """Counts what is written, and remembers of each object only the samples of its newest state."""

    def __init__(self, version: str, live: Callable[[], Live]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each, of use to OpenMetrics alone
        self._registry = CollectorRegistry()
        self._ask = live
        self._live = _Live()
        self._objects: dict[Kind, dict[tuple[str, str], tuple[Sample, ...]]] = {CYCLE: {}, DATASET: {}}
        self._counters = {
            name: Counter(name, metric.help, metric.labels, registry=self._registry)
            for name, metric in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(name, metric.help, metric.labels, buckets=_STAGE_SECONDS, registry=self._registry)
            for name, metric in HISTOGRAMS.items()
        }
        self._passes = Histogram(
            "alignment_reconcile_duration_seconds",
            "How long a pass took, failed ones too.",
            ["kind"],
            buckets=_PASS_SECONDS,
            registry=self._registry,
        )
        self._errors = Counter(
            "alignment_reconcile_errors_total",
            "Passes that failed.",
            ["kind", "error"],
            registry=self._registry,
        )
        info = Gauge(
            "alignment_operator_info", "1; its label is the release.", ["version"], registry=self._registry
        )
        info.labels(version).set(1)
        ProcessCollector(registry=self._registry)
        self._missed: Tally[tuple[str, str]] = Tally()
        self._registry.register(_Objects(self._objects, self._missed))
        self._registry.register(self._live)
        self._begin_at_zero()

    def heard(self, kind: Kind, manifest: Manifest) -> None:
        """An object is new or has changed."""
        of = gauges.of_cycle if kind == CYCLE else gauges.of_dataset
        self._objects[kind][manifest["metadata"]["namespace"], manifest["metadata"]["name"]] = of(manifest)

    def forget(self, key: Key) -> None:
        """An object is gone, and its series with it."""
        self._objects[key.kind].pop((key.namespace, key.name), None)
        if key.kind == CYCLE:
            self._missed.pop((key.namespace, key.name), None)

    def written(self, key: Key, change: Change, told: Sequence[str] = ()) -> None:
        """A status was written, and events with these reasons after it."""
        if Reason.SCHEDULE_MISSED in told:
            self._missed[key.namespace, key.name] += 1
        before, after = change
        match before, after:
            case AlignmentCycleStatus(), AlignmentCycleStatus():
                self._count(transitions.of_cycle(before, after))
            case PreferenceDatasetStatus(), PreferenceDatasetStatus():
                self._count(transitions.of_dataset(before, after))

    def reconciled(self, key: Key, seconds: float, error: BaseException | None) -> None:
        """A pass has ended."""
        self._passes.labels(key.kind.kind).observe(seconds)
        if error is not None:
            self._errors.labels(key.kind.kind, type(error).__name__).inc()

    async def serve(self, _: web.Request) -> web.Response:
        """GET /metrics. In a thread: ten thousand cycles take it a second."""
        self._live.now = self._ask()
        body = await asyncio.to_thread(generate_latest, self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _count(self, samples: Iterable[Sample]) -> None:
        for name, labels, value in samples:
            if name in self._counters:
                self._counters[name].labels(*labels).inc(value)
            else:
                self._histograms[name].labels(*labels).observe(value)

    def _begin_at_zero(self) -> None:
        """A counter that first appears at 1 has not increased, as far as Prometheus can tell."""
        for outcome in get_args(Outcome):
            self._counters["alignment_iterations_total"].labels(outcome)
            self._histograms["alignment_iteration_duration_seconds"].labels(outcome)
        for stage in Stage:
            self._counters["alignment_stage_retries_total"].labels(stage.value)
            self._counters["alignment_stage_disruptions_total"].labels(stage.value)
            for state in ("Succeeded", "Failed"):
                self._histograms["alignment_stage_duration_seconds"].labels(stage.value, state)
        for gate in Gate:
            for verdict in Verdict:
                self._counters["alignment_gate_verdicts_total"].labels(gate.value, verdict.value)
        for kind in (CYCLE, DATASET):
            self._passes.labels(kind.kind)
            self._errors.labels(kind.kind, ConflictError.__name__)


class _Objects(Collector):
    """The gauges of every object that there is."""

    def __init__(
        self,
        objects: Mapping[Kind, Mapping[tuple[str, str], tuple[Sample, ...]]],
        missed: Tally[tuple[str, str]],
    ) -> None:
        self._objects = objects
        self._missed = missed

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        cycles, datasets = (list(self._objects[kind].items()) for kind in (CYCLE, DATASET))
        yield GaugeMetricFamily("alignment_cycles", "AlignmentCycles that there are.", value=len(cycles))
        yield _by_condition(samples for _, samples in cycles)
        yield self._schedules(cycles)
        yield from _families(CYCLE_GAUGES, ("namespace", "cycle"), cycles)
        yield from _families(DATASET_GAUGES, ("namespace", "dataset"), datasets)

    def _schedules(self, cycles: Iterable[tuple[tuple[str, str], tuple[Sample, ...]]]) -> CounterMetricFamily:
        """Of each cycle that has one, from 0: else the first slot missed would be no increase."""
        family = CounterMetricFamily(
            "alignment_cycle_schedules_missed",
            "Slots of the schedule within whose starting deadline nothing started.",
            labels=["namespace", "cycle"],
        )
        for named, samples in cycles:
            scheduled = any(
                sample.metric == "alignment_cycle_next_run_timestamp_seconds" for sample in samples
            )
            if scheduled or self._missed[named]:
                family.add_metric(named, self._missed[named])
        return family


def _by_condition(cycles: Iterable[tuple[Sample, ...]]) -> GaugeMetricFamily:
    tally = Tally(
        sample.labels[0]
        for samples in cycles
        for sample in samples
        if sample.metric == "alignment_cycle_condition"
    )
    family = GaugeMetricFamily(
        "alignment_cycles_by_condition", "AlignmentCycles of which the condition holds.", labels=["condition"]
    )
    for condition in gauges.CONDITIONS:
        family.add_metric([condition], tally[condition])
    return family


def _families(
    metrics: Mapping[str, Metric],
    owner: tuple[str, str],
    objects: Iterable[tuple[tuple[str, str], tuple[Sample, ...]]],
) -> Iterable[GaugeMetricFamily]:
    families = {
        name: GaugeMetricFamily(name, metric.help, labels=[*owner, *metric.labels])
        for name, metric in metrics.items()
    }
    for named, samples in objects:
        for sample in samples:
            families[sample.metric].add_metric([*named, *sample.labels], sample.value)
    return families.values()


class _Live(Collector):
    now = Live(0, 0.0, {})

    def collect(self) -> Iterable[GaugeMetricFamily]:
        live = self.now
        yield GaugeMetricFamily(
            "alignment_queue_depth", "Objects that wait for a pass.", value=live.queue_depth
        )
        yield GaugeMetricFamily(
            "alignment_queue_oldest_seconds",
            "How long the object that waits or is worked on longest has done so.",
            value=live.oldest_seconds,
        )
        heard = GaugeMetricFamily(
            "alignment_watch_heard_timestamp_seconds",
            "When the API server last said something about the resource.",
            labels=["resource"],
        )
        for resource, seconds in live.heard.items():
            heard.add_metric([resource], seconds)
        yield heard

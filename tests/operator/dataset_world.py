"""A world for the planner of datasets: an API server, a Job controller and a store in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from alignment_api import digests
from alignment_api.dataset import PreferenceDatasetSpec, PreferenceDatasetStatus
from alignment_api.stage import (
    CollectParameters,
    ExitCode,
    Located,
    Stage,
    StageConfig,
    StageFailure,
    StageReport,
    StageResult,
)
from alignment_operator.observed import JobState, JobView, ObservedDataset, PodView
from alignment_operator.plan import dataset
from alignment_operator.planned import DatasetPlan, DeleteJob, ExpireJob, StartJob, SuspendJob
from tests.operator.edges import SETTINGS, owner

START = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
PREFIX = "pvc://data/store/team/feedback/uid-1/revisions"


def dataset_spec(revisions: int = 5, **changes: Any) -> PreferenceDatasetSpec:
    return PreferenceDatasetSpec.from_wire(
        {
            "store": {"uri": "pvc://data/store"},
            "sources": [{"name": "a", "files": {"uri": "pvc://data/pairs.jsonl"}}],
            "retention": {"revisions": revisions},
        }
        | changes
    )


@dataclass
class DatasetWorld:
    """What exists. A refresh makes the revision `content`; `in_use` is what cycles work from."""

    spec: PreferenceDatasetSpec = field(default_factory=dataset_spec)
    now: datetime = START
    content: str = ""
    fails: bool = False
    status: PreferenceDatasetStatus = field(default_factory=PreferenceDatasetStatus)
    jobs: dict[str, tuple[JobView, StageConfig]] = field(default_factory=dict)
    stored: dict[str, str | None] = field(default_factory=dict)  # folders, and the digest of what is sealed
    in_use: set[str] = field(default_factory=set)
    run: int = 0

    def observe(self) -> ObservedDataset:
        collection = self.status.collection
        looks = collection and collection.stage.state == "Pending" and collection.stage.job is None
        return ObservedDataset(
            owner=owner(name="feedback", annotations={"alignment.dev/run": str(self.run)}),
            settings=SETTINGS,
            spec=self.spec,
            problems=(),
            status=self.status,
            jobs=tuple(view for view, _ in self.jobs.values()),
            in_use=frozenset(f"{PREFIX}/{folder}" for folder in self.in_use) if looks else None,
        )

    def pass_(self, *, crash: bool = False) -> DatasetPlan:
        """One pass; with `crash`, the operator dies after its actions, before it writes status."""
        plan = dataset.plan(self.observe(), self.now)
        uids: dict[str, str] = {}
        for action in plan.actions:
            match action:
                case StartJob():
                    uids[action.name] = self._start(action)
                case ExpireJob(name):
                    self._change(name, ttl_set=True)
                case DeleteJob(name):
                    del self.jobs[name]
                case SuspendJob(name, _, suspend):
                    self._change(name, suspended=suspend)
        if not crash:
            self.status = _with_uids(plan.status, uids)
        return plan

    def _start(self, job: StartJob) -> str:
        if job.name not in self.jobs:
            view = JobView(
                name=job.name,
                uid=f"uid-of-{job.name}",
                stage=job.config.stage,
                iteration=job.config.iteration,
                attempt=job.attempt,
                hash=job.hash,
                state=JobState.ACTIVE,
                created_at=self.now,
                pod=PodView(started=True),
            )
            self.jobs[job.name] = (view, job.config)
        return self.jobs[job.name][0].uid

    def _change(self, name: str, **changes: Any) -> None:
        view, config = self.jobs[name]
        self.jobs[name] = (replace(view, **changes), config)

    def active(self, stage: Stage) -> list[str]:
        return [
            name
            for name, (view, _) in self.jobs.items()
            if view.stage == stage and view.state is JobState.ACTIVE
        ]

    def work(self, *stages: Stage) -> None:
        """Every Job of these stages ends."""
        for stage in stages:
            for name in self.active(stage):
                self.fail(name) if self.fails and stage == Stage.INGEST else self._succeed(name)

    def fail(self, name: str) -> None:
        config = self.jobs[name][1]
        if config.stage == Stage.INGEST:
            self.stored[config.output.rpartition("/")[2]] = None
        report = StageReport(failure=StageFailure(reason="Crashed", message="it crashed")).encode()
        pod = PodView(ExitCode.INVALID_CONFIG, report, started=True)
        self._change(name, state=JobState.FAILED, failure="PodFailurePolicy", pod=pod)

    def _succeed(self, name: str) -> None:
        config = self.jobs[name][1]
        folder = config.output.rpartition("/")[2]
        digest, counts = digests.of_bytes(self.content.encode()), {"read": 3, "kept": 3, "sequence": 3}
        if isinstance(config.parameters, CollectParameters):
            counts = self._collect(config.parameters, config.iteration)
        else:
            self.stored[folder] = digest
        result = StageResult(manifest=Located(uri=config.output, digest=digest), counts=counts)
        pod = PodView(0, StageReport(result=result).encode(), started=True)
        self._change(name, state=JobState.SUCCEEDED, pod=pod)

    def _collect(self, parameters: CollectParameters, last: int) -> dict[str, int]:
        wanted = parameters.revisions
        assert wanted is not None
        gone = [
            folder
            for folder in self.stored
            if int(folder.partition("-")[0]) <= last and folder not in wanted.kept
        ]
        for folder in gone:
            del self.stored[folder]
        return {"folders": len(self.stored) + len(gone), "deleted": len(gone), "kept": len(self.stored)}

    def settle(self, *stages: Stage) -> None:
        """Passes, and Jobs of these stages (all of them, if none is named) that end, until nothing moves."""
        for _ in range(50):
            before = (self.status, dict(self.jobs))
            self.pass_()
            self.work(*(stages or (Stage.INGEST, Stage.COLLECT)))
            if before == (self.status, self.jobs):
                return
        raise AssertionError(f"still moving: {self.status}")

    def ask(self, content: str, *, fails: bool = False) -> None:
        """A refresh, an hour later."""
        self.run, self.content, self.fails = self.run + 1, content, fails
        self.now += timedelta(hours=1)

    def refresh(self, *contents: str) -> None:
        """A whole refresh for each, with what follows from it."""
        for content in contents:
            self.ask(content)
            self.settle()

    def numbers(self) -> list[int]:
        """Refreshes whose folders are in the store."""
        return sorted(int(folder.partition("-")[0]) for folder in self.stored)

    def folder(self, number: int) -> str:
        return next(folder for folder in self.stored if folder.startswith(f"{number}-"))


def _with_uids(status: PreferenceDatasetStatus, uids: dict[str, str]) -> PreferenceDatasetStatus:
    wire = status.to_wire()
    stages = [wire.get("ingest", {}), wire.get("collection", {}).get("stage", {})]
    for stage in stages:
        if stage.get("job") in uids:
            stage["jobUID"] = uids[stage["job"]]
    return PreferenceDatasetStatus.from_wire(wire)

"""A world for the planner: an API server, a Job controller and a store in memory, with every fault they have."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from alignment_api import digests, names
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import AlignmentCycleStatus, DatasetRevision
from alignment_api.measurements import Measurement
from alignment_api.stage import (
    SIGNED,
    WORK,
    CollectParameters,
    ExitCode,
    Located,
    PromoteParameters,
    Stage,
    StageConfig,
    StageFailure,
    StageReport,
    StageResult,
)
from alignment_operator.observed import (
    DatasetView,
    Frozen,
    JobState,
    JobView,
    ObservedCycle,
    Owner,
    PodView,
    RevisionView,
    Settings,
    TargetView,
)
from alignment_operator.plan.cycle import plan
from alignment_operator.planned import (
    Action,
    CyclePlan,
    DeleteJob,
    DeleteRevision,
    ExpireJob,
    Freeze,
    HoldJob,
    PointTarget,
    StartJob,
    SuspendJob,
)

START = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)


def cycle_spec(**changes: Any) -> AlignmentCycleSpec:
    """A whole cycle with every gate, one ConfigMap target, two judges."""
    manifest: dict[str, Any] = {
        "policy": {"model": "pvc://models/m0"},
        "store": {"uri": "pvc://models/cycles"},
        "prompts": {"uri": "pvc://models/prompts.jsonl"},
        "judge": {"rewardModel": {"uri": "pvc://models/reward"}},
        "evaluation": {
            "goldSet": {"uri": "pvc://models/gold.jsonl"},
            "heldOutPrompts": {"uri": "pvc://models/heldout.jsonl"},
            "comparison": {"judge": {"verifier": {}}},
        },
        "gates": {"winRate": {}, "collapse": {}, "rewardHacking": {}},
        "promotion": {"targets": [{"configMap": {"name": "served", "key": "uri"}}]},
    }
    return AlignmentCycleSpec.from_wire(manifest | changes)


def measured(quality: str) -> dict[str, Any]:
    """What evaluate and compare report of a candidate that is good, longer and worse, or too close to call."""
    gain, ratio, rate = {
        "good": ((12.0, 8.0, 16.0), (1.05, 1.0, 1.1), (70.0, 60.0, 80.0)),
        "hacked": ((-12.0, -16.0, -8.0), (2.0, 1.9, 2.1), (30.0, 20.0, 40.0)),
        "unclear": ((0.5, -2.0, 3.0), (1.02, 0.97, 1.08), (51.0, 45.0, 57.0)),
    }[quality]

    def of(three: tuple[float, float, float], n: int, **more: float) -> Measurement:
        return Measurement(estimate=three[0], low=three[1], high=three[2], n=n, **more)

    gold = of(gain, 900, p=0.0001 if gain[0] < 0 else 0.9, discordant=0.15, lower_bound=gain[1])
    return {
        "measurements": {
            "goldPooled": gold,
            "lengthRatio": of(ratio, 300),
            "truncatedShare": of((0.0, 0.0, 0.5), 300),
            "truncatedChange": of((0.0, -0.5, 0.5), 300),
            "candidateTokens": of((20.0, 19.0, 21.0), 300),
            "incumbentTokens": of((20.0, 19.0, 21.0), 300),
            "candidateEntropy": of((0.4, 0.3, 0.5), 300),
            "incumbentEntropy": of((0.4, 0.3, 0.5), 300),
            "distinct2Drop": of((2.0, -3.0, 7.0), 300),
            "identicalChange": of((0.5, -1.0, 2.0), 300),
            "promptDependenceChange": of((0.1, -0.2, 0.4), 300),
            "winRate": of(rate, 300),
            "winRateNotLonger": of(rate, 200),
            "winRateEvidence": Measurement(estimate=9.0 if rate[1] > 50 else 0.5, n=300),
            "winRateEvidenceNeeded": Measurement(estimate=5.0, n=300),
            "rewardWinRate": of((80.0, 70.0, 90.0), 300),
        },
        "by_category": {"reasoning": {"gold": gold, "goldAccuracy": of((60.0, 57.0, 63.0), 900)}},
    }


def _signs(config: StageConfig) -> bool:
    return config.stage is Stage.PROMOTE and config.signature is not None


@dataclass
class Job:
    """A Job with its newest pod."""

    view: JobView
    config: StageConfig


@dataclass
class World:
    """What exists. `passes` of the operator change it, and so do Jobs, people and accidents."""

    spec: AlignmentCycleSpec = field(default_factory=cycle_spec)
    quality: str = "good"
    now: datetime = START
    created: datetime = START - timedelta(minutes=1)
    annotations: dict[str, str] = field(default_factory=dict)
    generation: int = 1
    status: dict[str, Any] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    frozen: dict[int, Frozen] = field(default_factory=dict)
    datasets: dict[str, int | None] = field(default_factory=dict)  # pairs of each; None while it is not ready
    folders: dict[str, str] = field(default_factory=dict)  # of their revisions
    target: TargetView = field(default_factory=lambda: TargetView("served", "uri", exists=False))
    manifests: dict[str, tuple[str, StageResult]] = field(default_factory=dict)
    models: dict[int, Located] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    sealed: dict[str, PromoteParameters] = field(default_factory=dict)
    uids: int = 0
    has_turn: bool = True

    def observe(self) -> ObservedCycle:
        owner = Owner("team", "support", "uid-1", self.generation, "1", dict(self.annotations), self.created)
        return ObservedCycle(
            owner=owner,
            settings=Settings(worker_image="worker:1"),
            spec=self.spec,
            problems=(),
            status=AlignmentCycleStatus.of(self.status),
            jobs=tuple(job.view for job in self.jobs.values()),
            frozen={number: self.frozen[number] for number in self._remembered()},
            revisions=tuple(
                RevisionView(frozen.name, f"revision-{number}", number)
                for number, frozen in self.frozen.items()
            ),
            datasets=tuple(
                _dataset(name, pairs, self.folders.get(name, name)) for name, pairs in self.datasets.items()
            ),
            targets=(self.target,) if self.spec.promotion.targets else (),
            has_turn=self.has_turn,
        )

    def _remembered(self) -> list[int]:
        """As `observe` reads ControllerRevisions: of the running iteration, or else the last three."""
        iteration = self.status.get("iteration", {})
        if iteration and "outcome" not in iteration:
            return [iteration["number"]] if iteration["number"] in self.frozen else []
        return sorted(self.frozen)[-3:]

    def pass_(self, *, crash_after: int | None = None) -> CyclePlan:
        """One pass; with `crash_after`, the operator dies after that many actions, before it writes status."""
        decided = plan(self.observe(), self.now)
        uids: dict[str, str] = {}
        for action in decided.actions[:crash_after]:
            uids |= self._do(action)
        if crash_after is None:
            self.status = _with_uids(decided.status.to_wire(), uids)
        return decided

    def _do(self, action: Action) -> dict[str, str]:
        match action:
            case Freeze(frozen):
                self.frozen.setdefault(frozen.number, frozen)
            case StartJob():
                return {action.name: self._start(action)}
            case DeleteJob(name, uid):
                self._change_same(name, uid, deleting=True)
            case DeleteRevision(_, uid):
                self.frozen.pop(int(uid.removeprefix("revision-")))
            case SuspendJob(name, uid, suspend):
                self._change_same(name, uid, suspended=suspend, pod=None)
            case HoldJob(name, uid, hold):
                self._change_same(name, uid, held=hold, held_by_us=hold, suspended=True, pod=None)
            case ExpireJob(name, uid):
                self._change_same(name, uid, ttl_set=True)
            case PointTarget(name, key, uri, digest, _):
                digest_key = self.target.digest_key
                self.target = TargetView(name, key, True, uri, digest, "team/support/uid-1")
                if digest_key:
                    self.target = replace(self.target, digest_key=digest_key, digest_value=digest)
        return {}

    def _start(self, action: StartJob) -> str:
        if action.name in self.jobs:
            there = self.jobs[action.name].view
            assert there.hash == action.hash, "another Job of that name is there"
            return there.uid
        self.uids += 1
        view = JobView(
            name=action.name,
            uid=f"job-{self.uids}",
            stage=action.config.stage,
            iteration=action.config.iteration,
            attempt=action.attempt,
            hash=action.hash,
            state=JobState.ACTIVE,
            created_at=self.now,
        )
        self.jobs[action.name] = Job(view, action.config)
        return view.uid

    def _change_same(self, name: str, uid: str, **changes: Any) -> None:
        if name in self.jobs and self.jobs[name].view.uid == uid:
            self.change(name, **changes)

    def change(self, name: str, **changes: Any) -> None:
        job = self.jobs[name]
        self.jobs[name] = Job(replace(job.view, **changes), job.config)

    def reap(self) -> None:
        """What is being deleted is gone at last."""
        self.jobs = {name: job for name, job in self.jobs.items() if not job.view.deleting}

    def live(self) -> list[JobView]:
        """Jobs whose pods may still run, those being deleted among them."""
        return [job.view for job in self.jobs.values() if job.view.state == JobState.ACTIVE]

    def active(self) -> list[str]:
        return [view.name for view in self.live() if not view.deleting]

    def working(self) -> list[str]:
        """Those whose pods may run."""
        return [view.name for view in self.live() if not view.deleting and not view.suspended]

    def succeed(self, name: str, *, lose_result: bool = False, **counts: int) -> None:
        result = self._compute(self.jobs[name].config)
        result = result.model_copy(update={"counts": result.counts | counts})
        pod = None if lose_result else PodView(0, StageReport(result=result).encode(), started=True)
        self.change(name, state=JobState.SUCCEEDED, pod=pod)

    def fail(self, name: str, code: int, reason: str = "Crashed", *, disrupted: bool = False) -> None:
        report = StageReport(failure=StageFailure(reason=reason, message=f"{reason} it is")).encode()
        pod = PodView(code, report, started=True, disrupted=disrupted)
        self.change(name, state=JobState.FAILED, failure="BackoffLimitExceeded", pod=pod)

    def _compute(self, config: StageConfig) -> StageResult:
        """Once for each folder of the store, whatever is started how often."""
        hash_ = names.stage_hash(config.owner_uid, config.to_wire())
        if config.output in self.manifests:
            there, result = self.manifests[config.output]
            assert there == hash_, f"two different stages write to {config.output}"
            return result
        key = f"{config.iteration}/{config.stage.value}"
        self.computed[key] = self.computed.get(key, 0) + 1
        digest = digests.of_json([config.output, hash_])
        measurements = measured(self.quality) if config.stage in {Stage.EVALUATE, Stage.COMPARE} else {}
        if isinstance(config.parameters, PromoteParameters):
            assert config.parameters.evidence.digest() == config.parameters.evidence_digest
            self.sealed[config.parameters.evidence_digest] = config.parameters
        if isinstance(config.parameters, CollectParameters) and config.parameters.iterations:
            self._collect(config, set(config.parameters.iterations.kept))
        result = StageResult(
            manifest=Located(uri=config.output, digest=digest),
            inputs={
                role: digests.of_json(role) for role, input_ in config.inputs.items() if input_.digest is None
            },
            model=self._model(config, digest),
            counts={WORK[config.stage]: 300} | ({SIGNED: 1} if _signs(config) else {}),
            **measurements,
        )
        self.manifests[config.output] = (hash_, result)
        return result

    def _collect(self, config: StageConfig, kept: set[int]) -> None:
        own = f"/iterations/{config.iteration}/collect"
        gone = {f"/iterations/{number}/" for number in range(1, config.iteration + 1) if number not in kept}
        self.manifests = {
            output: there
            for output, there in self.manifests.items()
            if output.endswith(own) or not any(folder in output for folder in gone)
        }

    def stored(self) -> set[int]:
        """Iterations that have artifacts other than the record of a collection."""
        found = (re.search(r"/iterations/([0-9]+)/(?!collect)", output) for output in self.manifests)
        return {int(match[1]) for match in found if match}

    def _model(self, config: StageConfig, digest: str) -> Located | None:
        """What reward or train made, and what evaluate and compare say that they measured."""
        if config.stage == Stage.REWARD:
            return Located(uri=f"{config.output}/model", digest=digest)
        if config.stage == Stage.TRAIN:
            self.models[config.iteration] = Located(uri=f"{config.output}/model", digest=digest)
        measured_on = {Stage.TRAIN, Stage.EVALUATE, Stage.COMPARE}
        return self.models[config.iteration] if config.stage in measured_on else None

    def settle(self, limit: int = 200) -> None:
        """No more faults: every Job succeeds, every pass is whole, until nothing moves. Fails if it never rests."""
        quiet = 0
        for _ in range(limit):
            before = (self.status, dict(self.jobs), self.target)
            self.pass_()
            self.reap()
            for name in self.active():
                if self.jobs[name].view.queue:
                    self.change(name, suspended=False)  # the queue admits it at last
            for name in self.working():
                self.succeed(name)
            self.now += timedelta(seconds=61)
            quiet = quiet + 1 if before == (self.status, self.jobs, self.target) else 0
            if quiet == 2:
                return
        raise AssertionError(f"still moving after {limit} passes: {self.status}")

    @property
    def iteration(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status.get("iteration", {})
        return found


def _dataset(name: str, pairs: int | None, folder: str) -> DatasetView:
    if pairs is None:
        return DatasetView(name, None, "refresh 2 is running")
    digest = digests.of_json([name, pairs])
    revision = DatasetRevision(name=name, revision=1, uri=f"pvc://data/{folder}", digest=digest, pairs=pairs)
    return DatasetView(name, revision, kept=frozenset([revision.uri]))


def _with_uids(status: dict[str, Any], uids: dict[str, str]) -> dict[str, Any]:
    collection = [status["collection"]["stage"]] if "collection" in status else []
    for stage in [*status.get("iteration", {}).get("stages", []), *collection]:
        if stage.get("job") in uids:
            stage["jobUID"] = uids[stage["job"]]
    return status


USER_FAULTS = [code for code in ExitCode if code.users_fault]

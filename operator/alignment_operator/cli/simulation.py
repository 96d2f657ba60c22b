"""What an iteration would start, found by planning it as if every stage succeeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from alignment_api import digests, names
from alignment_api.cycle_status import AlignmentCycleStatus, DatasetRevision, Iteration, StageStatus
from alignment_api.dataset import PreferenceDatasetSpec, PreferenceDatasetStatus
from alignment_api.stage import Located, Stage, StageConfig, StageResult
from alignment_api.uris import join
from alignment_api.validation import parse_cycle, parse_dataset
from alignment_operator import release
from alignment_operator.api import Manifest
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.observed import DatasetView, Frozen, ObservedCycle, ObservedDataset, Owner, Settings
from alignment_operator.plan import dataset as plan_dataset
from alignment_operator.plan import evidence, pipeline, start
from alignment_operator.plan import iteration as plan_iteration
from alignment_operator.planned import Freeze, StartJob

UNKNOWN_UID = "UID"  # the API server's to choose
_UNKNOWN_HASH = "x" * 64
_MEANWHILE = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Simulated:
    """The Jobs of an owner in their order. `unknown` says of each made-up digest what it stands for."""

    owner: Owner
    settings: Settings
    jobs: tuple[StartJob, ...]
    unknown: dict[str, str]


@dataclass(frozen=True)
class SimulatedCycle(Simulated):
    """`frozen`: what the iteration would work from."""

    frozen: Frozen


def settings() -> Settings:
    """As an operator of this version is installed by default."""
    return Settings(worker_image=release.worker_image())


def simulate_cycle(manifest: Manifest, datasets: Sequence[Manifest]) -> SimulatedCycle:
    """The next iteration of a valid manifest; with `metadata.uid` and `status` in it, of that very object.

    Raises CommandError if a dataset that it names is not among the datasets.
    """
    return _CycleSimulation(manifest, datasets).run()


def simulate_dataset(manifest: Manifest) -> Simulated:
    """The refresh of a valid manifest."""
    spec, _ = parse_dataset(manifest)
    owner = owner_of(manifest)
    observed = ObservedDataset(owner, settings(), spec, (), PreferenceDatasetStatus())
    begun = plan_dataset.plan(observed, _MEANWHILE).status  # it is written before there is a Job
    planned = plan_dataset.plan(replace(observed, status=begun), _MEANWHILE)
    jobs = tuple(_nameless(owner, action) for action in planned.actions if isinstance(action, StartJob))
    return Simulated(owner, observed.settings, jobs, {})


class _CycleSimulation:
    def __init__(self, manifest: Manifest, datasets: Sequence[Manifest]) -> None:
        spec, _ = parse_cycle(manifest)
        assert spec is not None
        self._owner = owner_of(manifest)
        self._unknown: dict[str, str] = {}
        status = AlignmentCycleStatus.of(manifest.get("status"))
        if status.iteration and status.iteration.outcome is None:
            status = status.model_copy(update={"iteration": None})  # the running one, as if it began anew
        by_name = {dataset["metadata"]["name"]: dataset for dataset in datasets}
        views = tuple(self._view(reference.name, by_name) for reference in spec.datasets or [])
        self._observed = ObservedCycle(self._owner, settings(), spec, (), status, datasets=views)

    def run(self) -> SimulatedCycle:
        planned = start.start(self._observed, start.Cause("Manual", "simulated"), _MEANWHILE)
        frozen = next(action.frozen for action in planned.actions if isinstance(action, Freeze))
        iteration, initial = planned.status.iteration, planned.status.initial
        assert iteration is not None
        jobs = []
        for stage in pipeline.stages(frozen.spec):
            config = pipeline.stage_config(stage, pipeline.Context(self._owner, frozen, iteration, initial))
            jobs.append(self._job(config, frozen))
            iteration = self._after(config, iteration)
            initial = initial or Located(uri=frozen.spec.policy.model, digest=iteration.inputs["policy"])
            iteration = iteration.model_copy(update={"incumbent": iteration.incumbent or initial})
        sealed = evidence.of(self._owner, frozen, iteration)
        self._unknown[sealed.digest()] = "digest of the evidence"
        iteration = iteration.model_copy(update={"evidence_digest": sealed.digest()})
        config = pipeline.stage_config(
            Stage.PROMOTE, pipeline.Context(self._owner, frozen, iteration, initial, sealed)
        )
        jobs.append(self._job(config, frozen))
        return SimulatedCycle(self._owner, self._observed.settings, tuple(jobs), self._unknown, frozen)

    def _job(self, config: StageConfig, frozen: Frozen) -> StartJob:
        pods = plan_iteration.pods(self._observed, frozen, config.stage)
        return _nameless(self._owner, StartJob("", "", config, 0, pods))

    def _after(self, config: StageConfig, iteration: Iteration) -> Iteration:
        """The iteration as the stage's success would leave it."""
        found = {
            role: self._made_up(f"digest of {role}")
            for role, item in config.inputs.items()
            if not item.digest
        }
        stage = config.stage.value
        manifest = Located(uri=config.output, digest=self._made_up(f"digest of what {stage} made"))
        candidate = iteration.candidate
        trained = None
        if config.stage == Stage.TRAIN:
            trained = candidate = self._trained(config, "the candidate")
        elif config.stage == Stage.REWARD:
            trained = self._trained(config, "the reward model")
        result = StageResult(manifest=manifest, model=trained)
        entry = StageStatus(name=config.stage, state="Succeeded", result=result)
        return iteration.model_copy(
            update={
                "inputs": {**iteration.inputs, **found},
                "stages": [*iteration.stages, entry],
                "candidate": candidate,
            }
        )

    def _trained(self, config: StageConfig, what: str) -> Located:
        uri = join(config.output, "run-RUN", "model")
        return Located(uri=uri, digest=self._made_up(f"digest of {what}"))

    def _made_up(self, what: str) -> str:
        digest = digests.of_bytes(what.encode())
        self._unknown[digest] = what
        return digest

    def _view(self, name: str, datasets: dict[str, Manifest]) -> DatasetView:
        if name not in datasets:
            message = (
                f"spec.datasets: {name}: no PreferenceDataset of that name; give its manifest too: -f FILE"
            )
            raise CommandError(message, Exit.INVALID)
        manifest = datasets[name]
        spec, _ = parse_dataset(manifest)
        assert isinstance(spec, PreferenceDatasetSpec)
        owner = owner_of(manifest)
        prefix = names.cycle_prefix(spec.store.uri, owner.namespace, owner.name, owner.uid)
        revision = DatasetRevision(
            name=name,
            revision=1,
            uri=join(prefix, "revisions", "1"),
            digest=self._made_up(f"digest of the newest revision of {name}"),
        )
        return DatasetView(name, revision)


def owner_of(manifest: Manifest) -> Owner:
    metadata = manifest["metadata"]
    return Owner(
        namespace=metadata.get("namespace") or "default",
        name=metadata.get("name") or metadata["generateName"] + "xxxxx",
        uid=metadata.get("uid", UNKNOWN_UID),
        generation=metadata.get("generation", 1),
        resource_version=metadata.get("resourceVersion", ""),
        annotations={},
    )


def _nameless(owner: Owner, job: StartJob) -> StartJob:
    """Its hash, and so the end of its name, follows from digests that are not known yet."""
    name = names.job_name(owner.name, job.config.iteration, job.config.stage.value, 0, _UNKNOWN_HASH)
    return replace(job, name=name, hash=_UNKNOWN_HASH)

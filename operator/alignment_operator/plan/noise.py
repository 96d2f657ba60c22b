"""An A/A run: the incumbent against itself, drawn twice, by the gates of an iteration. What differs is noise.

It is no iteration: nothing is sampled for training, trained or promoted, and no object or folder of the store changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from alignment_api import digests, names
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import Iteration, StageStatus
from alignment_api.gates import Gate, GateResult, Verdict
from alignment_api.pods import PodDefaults, Resources, settled
from alignment_api.quantities import Quantity, amount
from alignment_api.stage import CONTRACT_VERSION, Located, Stage, StageConfig, StageResult
from alignment_operator.gates.verdicts import judge_all
from alignment_operator.observed import Frozen, Owner
from alignment_operator.plan import pipeline
from alignment_operator.plan.iteration import settled_pods

_LEFT_OUT = (Gate.CONTAMINATION, Gate.DIVERGENCE)
_NOT_KNOWN_YET = digests.of_bytes(b"")
_EVEN_PERCENT = 50


@dataclass(frozen=True)
class Noise:
    """`output`: URI of a folder that its stages may write to, and that is not the cycle's. `incumbent`: None is M_0."""

    owner: Owner
    spec: AlignmentCycleSpec
    incumbent: Located | None
    level_percent: float | None
    output: str
    seed: int

    @property
    def stages(self) -> tuple[Stage, ...]:
        compared = (Stage.COMPARE,) if self.spec.evaluation.comparison else ()
        return (Stage.EVALUATE, *compared)

    def config(self, stage: Stage, results: Mapping[Stage, StageResult]) -> StageConfig:
        """As an iteration would have it, but that the candidate is the incumbent. `results`: of the stages before."""
        config = pipeline.stage_config(
            stage, pipeline.Context(self.owner, self._frozen, self._at(results), None)
        )
        inputs = dict(config.inputs)
        if "candidate" in inputs:
            inputs["candidate"] = inputs["policy"]
        output = names.stage_prefix(self.output, 1, stage.value)
        return config.model_copy(update={"inputs": inputs, "output": output, "seed": self.seed})

    @property
    def configs(self) -> list[StageConfig]:
        """For one pod that runs all stages in turn: compare finds what evaluate will have made, and its digest."""
        evaluate = self.config(Stage.EVALUATE, {})
        if Stage.COMPARE not in self.stages:
            return [evaluate]
        to_come = StageResult(manifest=Located(uri=evaluate.output, digest=_NOT_KNOWN_YET))
        compare = self.config(Stage.COMPARE, {Stage.EVALUATE: to_come})
        answers = compare.inputs["answers"].model_copy(update={"digest": None})
        return [evaluate, compare.model_copy(update={"inputs": {**compare.inputs, "answers": answers}})]

    @property
    def pods(self) -> PodDefaults:
        """Of that pod: evaluate's settings over compare's, the most that either asks for, and the time of both."""
        each = [settled_pods(self.spec, stage) for stage in self.stages]
        asked = [pods.resources for pods in each if pods.resources is not None]
        resources = Resources(
            requests=_most(given.requests for given in asked), limits=_most(given.limits for given in asked)
        )
        changes = {
            "resources": resources if asked else None,
            "active_deadline_seconds": sum(pods.active_deadline_seconds for pods in each),
        }
        return settled(each[-1], each[0]).model_copy(update=changes)

    def verdicts(self, results: Mapping[Stage, StageResult]) -> tuple[GateResult, ...]:
        """What each gate says of the equal model. `results`: of all stages."""
        model = results[Stage.EVALUATE].model
        assert model is not None  # evaluate says whose answers it measured
        trained = StageResult(manifest=model, model=model)
        inputs = {role: digest for result in results.values() for role, digest in result.inputs.items()}
        return judge_all(self._judged, {Stage.TRAIN: trained, **results}, inputs, model)

    @property
    def left_out(self) -> list[Gate]:
        """Gates of the spec that have nothing to look at."""
        asked = {
            Gate.CONTAMINATION: self.spec.gates.contamination,
            Gate.DIVERGENCE: self.spec.gates.divergence,
        }
        return [gate for gate in _LEFT_OUT if asked[gate] is not None]

    @property
    def _judged(self) -> AlignmentCycleSpec:
        """An equal model diverges by nothing, and nothing that it was trained on leaks."""
        gates = self.spec.gates.model_copy(update={"contamination": None, "divergence": None})
        return self.spec.model_copy(update={"gates": gates})

    @property
    def _frozen(self) -> Frozen:
        return Frozen(
            name="",
            number=1,
            trigger="Manual",
            slot="",
            started_at="",
            handled_run="",
            generation=self.owner.generation,
            spec=self._judged,
            incumbent=self.incumbent,
            datasets=(),
            contract_version=CONTRACT_VERSION,
        )

    def _at(self, results: Mapping[Stage, StageResult]) -> Iteration:
        same = self.incumbent or Located(uri=self.spec.policy.model, digest=_NOT_KNOWN_YET)
        return Iteration(
            number=1,
            trigger="Manual",
            generation=self.owner.generation,
            revision="",
            started_at="",
            inputs={role: digest for result in results.values() for role, digest in result.inputs.items()},
            incumbent=self.incumbent,
            candidate=same,
            stages=[
                StageStatus(name=stage, state="Succeeded", result=result) for stage, result in results.items()
            ],
            level_percent=self.level_percent,
        )


def alarms(gates: tuple[GateResult, ...]) -> list[GateResult]:
    """Where noise alone would have decided: an equal model refused as harmful, or preferred."""
    return [gate for gate in gates if gate.verdict is _wrong(gate)]


def _most(each: Iterable[Mapping[str, Quantity] | None]) -> dict[str, Quantity] | None:
    found: dict[str, Quantity] = {}
    for name, asked in (item for amounts in each for item in (amounts or {}).items()):
        found[name] = max(found.get(name, asked), asked, key=amount)
    return found or None


def _wrong(gate: GateResult) -> Verdict:
    """Of an equal model, which a `minPercent` below 50 lets pass."""
    asks_for_more = gate.name is Gate.WIN_RATE and (gate.limit or 0) >= _EVEN_PERCENT
    return Verdict.PASSED if asks_for_more else Verdict.FAILED

"""Which stages an iteration has, in which order, and what each is given."""

from __future__ import annotations

from alignment_api import names
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import Iteration
from alignment_api.evidence import Evidence
from alignment_api.judges import ComparisonJudge
from alignment_api.stage import (
    CompareParameters,
    EvaluateParameters,
    Input,
    InputKind,
    JudgeParameters,
    Located,
    PromoteParameters,
    SampleParameters,
    Stage,
    StageConfig,
    StageResult,
    TrainParameters,
)
from alignment_operator.observed import Frozen, Owner

# Full fine-tuning at 5e-7 is the recipe of iterative DPO; low-rank adapters need about twenty times that.
_LEARNING_RATE = 5e-7
_LORA_FACTOR = 20


def stages(spec: AlignmentCycleSpec) -> tuple[Stage, ...]:
    """What is measured before the gates; `promote` follows only if they let it."""
    sampled = (Stage.SAMPLE, Stage.JUDGE) if spec.prompts else ()
    compared = (Stage.COMPARE,) if spec.evaluation.comparison else ()
    return (*sampled, Stage.TRAIN, Stage.EVALUATE, *compared)


def stage_config(
    stage: Stage,
    owner: Owner,
    frozen: Frozen,
    iteration: Iteration,
    initial: Located | None,
    evidence: Evidence | None = None,
) -> StageConfig:
    """`initial` is M_0 with its digest, None until the first stage of the first iteration has found it.

    Raises KeyError if an earlier stage that this one needs has no result.
    """
    spec = frozen.spec
    inputs = _all_inputs(frozen, iteration, initial)
    inputs |= _products(owner, frozen, iteration)
    first = stage == stages(spec)[0]
    prefix = names.cycle_prefix(spec.store.uri, owner.namespace, owner.name, owner.uid)
    seed = frozen.number
    needed: dict[str, Input]
    parameters: (
        SampleParameters
        | JudgeParameters
        | TrainParameters
        | EvaluateParameters
        | CompareParameters
        | PromoteParameters
    )
    match stage:
        case Stage.SAMPLE:
            assert spec.prompts is not None
            parameters = SampleParameters(sampling=spec.sampling, per_iteration=spec.prompts.per_iteration)
            needed = _select(inputs, "policy", "prompts")
            seed = frozen.number if spec.sampling.seed is None else spec.sampling.seed
        case Stage.JUDGE:
            assert spec.judge is not None
            parameters = JudgeParameters(judge=spec.judge)
            needed = _select(inputs, "samples") | _optional(inputs, "judge")
        case Stage.TRAIN:
            training = spec.training.model_copy(update={"learning_rate": learning_rate(spec)})
            parameters = TrainParameters(training=training, datasets=spec.datasets or [])
            datasets = [role for role in inputs if role.startswith("dataset/")]
            needed = _select(inputs, *datasets) | _optional(inputs, "pairs", "goldSet", "heldOutPrompts")
            needed["start"] = inputs["policy" if spec.policy.start == "Previous" else "initial"]
            needed["reference"] = inputs["policy" if spec.policy.reference == "Previous" else "initial"]
            seed = spec.training.seed
        case Stage.EVALUATE:
            parameters = EvaluateParameters(
                gold_set=spec.evaluation.gold_set,
                held_out_prompts=spec.evaluation.held_out_prompts,
                temperature=spec.sampling.temperature,
                top_p=spec.sampling.top_p,
                confidence_percent=spec.evaluation.confidence_percent,
            )
            needed = _select(inputs, "candidate", "policy", "goldSet", "heldOutPrompts")
            if _limited_from_initial(spec):
                needed["initial"] = inputs["initial"]
        case Stage.COMPARE:
            assert spec.evaluation.comparison is not None
            parameters = CompareParameters(
                comparison=spec.evaluation.comparison,
                judge=spec.judge,
                min_percent=spec.gates.win_rate.min_percent if spec.gates.win_rate else 50.0,
                confidence_percent=spec.evaluation.confidence_percent,
            )
            needed = _select(inputs, "answers", "heldOutPrompts") | _optional(
                inputs, "judge", "comparisonJudge"
            )
        case Stage.PROMOTE:
            assert evidence is not None
            parameters = PromoteParameters(
                evidence=evidence, evidence_digest=evidence.digest(), cycle_prefix=prefix
            )
            needed = _select(inputs, "candidate")
        case _:
            raise ValueError(f"{stage} is not a stage of an iteration")
    if first:
        needed = _all_inputs(frozen, iteration, initial) | needed
    return StageConfig(
        stage=stage,
        owner_uid=owner.uid,
        iteration=frozen.number,
        output=names.stage_prefix(
            spec.store.uri, owner.namespace, owner.name, owner.uid, frozen.number, stage.value
        ),
        inputs=needed,
        parameters=parameters,
        seed=seed,
    )


def learning_rate(spec: AlignmentCycleSpec) -> float:
    """As the user wrote it, or the method's default."""
    if spec.training.learning_rate is not None:
        return spec.training.learning_rate
    return _LEARNING_RATE * (_LORA_FACTOR if spec.training.lora else 1)


def _all_inputs(frozen: Frozen, iteration: Iteration, initial: Located | None) -> dict[str, Input]:
    """Everything that the iteration reads and did not make, by role, with the digests known so far."""
    spec = frozen.spec
    known = dict(iteration.inputs)
    if initial:
        known["initial"] = initial.digest
    known["policy"] = (
        frozen.incumbent.digest if frozen.incumbent else known.get("initial", known.get("policy", ""))
    )
    found: dict[str, tuple[str, InputKind]] = {
        "policy": (frozen.incumbent.uri if frozen.incumbent else spec.policy.model, InputKind.MODEL)
    }
    if _needs_initial(spec):
        found["initial"] = (spec.policy.model, InputKind.MODEL)
    if spec.prompts:
        checkable = spec.judge is not None and spec.judge.verifier is not None
        found["prompts"] = (spec.prompts.uri, InputKind.CHECKABLE_PROMPTS if checkable else InputKind.PROMPTS)
    found["goldSet"] = (spec.evaluation.gold_set.uri, InputKind.GOLD_SET)
    found["heldOutPrompts"] = (
        spec.evaluation.held_out_prompts.uri,
        InputKind.CHECKABLE_PROMPTS if _verifies_held_out(spec) else InputKind.PROMPTS,
    )
    found |= _reward_models(spec)
    inputs = {
        role: Input(uri=uri, kind=kind, digest=known.get(role) or None) for role, (uri, kind) in found.items()
    }
    for revision in frozen.datasets:
        inputs[f"dataset/{revision.name}"] = Input(
            uri=revision.uri, kind=InputKind.STAGE, digest=revision.digest
        )
    return inputs


def _products(owner: Owner, frozen: Frozen, iteration: Iteration) -> dict[str, Input]:
    """What earlier stages of the iteration made, by the role it has for later ones."""
    products = {}
    for stage, role in ((Stage.SAMPLE, "samples"), (Stage.JUDGE, "pairs"), (Stage.EVALUATE, "answers")):
        if result := result_of(iteration, stage):
            products[role] = Input(
                uri=result.manifest.uri, kind=InputKind.STAGE, digest=result.manifest.digest
            )
    if iteration.candidate:
        products["candidate"] = Input(
            uri=iteration.candidate.uri, kind=InputKind.MODEL, digest=iteration.candidate.digest
        )
    return products


def result_of(iteration: Iteration, stage: Stage) -> StageResult | None:
    return next((entry.result for entry in iteration.stages if entry.name == stage), None)


def _needs_initial(spec: AlignmentCycleSpec) -> bool:
    return "Initial" in {spec.policy.start, spec.policy.reference} or _limited_from_initial(spec)


def _limited_from_initial(spec: AlignmentCycleSpec) -> bool:
    gates = spec.gates
    limits = (
        gates.gold_set.max_drop_from_initial_points,
        gates.length_drift.max_increase_from_initial_percent,
        gates.collapse.max_distinct_drop_from_initial_percent if gates.collapse else None,
    )
    return any(limit is not None for limit in limits)


def _verifies_held_out(spec: AlignmentCycleSpec) -> bool:
    judges: list[ComparisonJudge | None] = []
    if spec.evaluation.comparison:
        judges = [spec.evaluation.comparison.judge, spec.judge]
    return any(judge is not None and judge.verifier is not None for judge in judges)


def _reward_models(spec: AlignmentCycleSpec) -> dict[str, tuple[str, InputKind]]:
    comparison = spec.evaluation.comparison.judge if spec.evaluation.comparison else None
    return {
        role: (judge.reward_model.uri, InputKind.REWARD_MODEL)
        for role, judge in (("judge", spec.judge), ("comparisonJudge", comparison))
        if judge is not None and judge.reward_model is not None
    }


def _select(inputs: dict[str, Input], *roles: str) -> dict[str, Input]:
    return {role: inputs[role] for role in roles}


def _optional(inputs: dict[str, Input], *roles: str) -> dict[str, Input]:
    return {role: inputs[role] for role in roles if role in inputs}

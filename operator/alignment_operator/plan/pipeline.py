"""Which stages an iteration has, in which order, and what each is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alignment_api import names
from alignment_api.cycle import AlignmentCycleSpec, Judge
from alignment_api.cycle_status import Iteration
from alignment_api.evidence import Evidence
from alignment_api.judges import ComparisonJudge, trained_here
from alignment_api.ppo import PPO
from alignment_api.prompts import asks_datasets
from alignment_api.signature import Signature
from alignment_api.stage import (
    SIGNED_ROLES,
    CompareParameters,
    EvaluateParameters,
    Expected,
    Input,
    InputKind,
    JudgeParameters,
    Located,
    OnlineParameters,
    Parameters,
    PromoteParameters,
    RewardParameters,
    SampleParameters,
    Stage,
    StageConfig,
    StageResult,
    TrainParameters,
)
from alignment_operator.observed import Frozen, Owner

# Full fine-tuning at 5e-7 is the recipe of iterative DPO; low-rank adapters need about twenty times that.
_LEARNING_RATE = {"DPO": 5e-7, "IPO": 5e-7, "KTO": 5e-7, "BestOfN": 1e-5, "PPO": 1e-6}
_LORA_FACTOR = 20
# IPO aims at a gap of 1 / (2 beta) nats a token (docs/methods.md). BestOfN has no reference to stay close to.
_BETA = {"DPO": 0.1, "IPO": 1.0, "KTO": 0.1, "PPO": 0.1}


def stages(spec: AlignmentCycleSpec) -> tuple[Stage, ...]:
    """What is measured before the gates; `promote` follows only if they let it."""
    rewarded = (Stage.REWARD,) if spec.reward else ()
    sampled = (Stage.SAMPLE, Stage.JUDGE) if spec.prompts and not _online(spec) else ()
    compared = (Stage.COMPARE,) if spec.evaluation.comparison else ()
    return (*rewarded, *sampled, Stage.TRAIN, Stage.EVALUATE, *compared)


@dataclass(frozen=True)
class Context:
    """What the config of any stage is made from.

    `initial` is M_0 with its digest, None until the first stage of the first iteration has found it. `evidence` is
    what the stage `promote` seals, and `evidence_digest` what was judged or approved.
    """

    owner: Owner
    frozen: Frozen
    iteration: Iteration
    initial: Located | None
    evidence: Evidence | None = None

    @property
    def spec(self) -> AlignmentCycleSpec:
        return self.frozen.spec

    @property
    def prefix(self) -> str:
        return names.cycle_prefix(self.spec.store.uri, self.owner.namespace, self.owner.name, self.owner.uid)


@dataclass(frozen=True)
class _Work:
    """What is a stage's own in its config."""

    parameters: Parameters
    inputs: dict[str, Input]
    seed: int


def stage_config(stage: Stage, context: Context) -> StageConfig:
    """Raises KeyError if an earlier stage that this one needs has no result."""
    inputs = _all_inputs(context) | _products(context.spec, context.iteration)
    work = _WORK_OF[stage](context, inputs)
    first = stage == stages(context.spec)[0]
    # The first stage checks and digests everything early; later ones verify what they read.
    given = _all_inputs(context) | work.inputs if first else work.inputs
    return StageConfig(
        stage=stage,
        owner_uid=context.owner.uid,
        iteration=context.frozen.number,
        output=names.stage_prefix(context.prefix, context.frozen.number, stage.value),
        inputs=given,
        expected=_expected(context.spec) if first else None,
        parameters=work.parameters,
        python_grader=context.spec.evaluation.python_grader if _grades(stage, context.spec) else None,
        signature=_signature(stage, context.spec, given),
        seed=work.seed,
    )


def least_held_out(spec: AlignmentCycleSpec) -> int:
    """How many held-out prompts the win rate needs."""
    comparison = spec.evaluation.comparison
    return comparison.min_comparisons if comparison and spec.gates.win_rate else 0


def _expected(spec: AlignmentCycleSpec) -> Expected:
    limits = spec.gates.gold_set.categories
    return Expected(
        held_out_prompts=least_held_out(spec),
        gold_categories=[category.name for category in limits or []],
        lora=spec.training.lora,
        python_grader=spec.evaluation.python_grader is not None,
        max_length=spec.training.max_length,
        clusters=True if spec.prompts and spec.prompts.spread == "Clusters" else None,
    )


def _signature(stage: Stage, spec: AlignmentCycleSpec, inputs: dict[str, Input]) -> Signature | None:
    """For the stage that signs, and for those that read what was signed."""
    concerned = stage is Stage.PROMOTE or not inputs.keys().isdisjoint(SIGNED_ROLES)
    return spec.promotion.signature if concerned else None


def _grades(stage: Stage, spec: AlignmentCycleSpec) -> bool:
    """Whether rows' own graders are asked in it."""
    judge, comparison = spec.judge, spec.evaluation.comparison
    verifies = judge is not None and judge.verifier is not None
    match stage:
        case Stage.EVALUATE:
            return True
        case Stage.JUDGE:
            return verifies or (judge is not None and judge.short_correct_percent > 0)
        case Stage.TRAIN:
            return verifies and _online(spec)
        case Stage.COMPARE:
            other = comparison.judge if comparison else None
            return verifies or (other is not None and other.verifier is not None)
    return False


def _reward(context: Context, inputs: dict[str, Input]) -> _Work:
    spec = context.spec
    assert spec.reward is not None
    parameters = RewardParameters(
        reward=spec.reward,
        training=spec.training,
        datasets=spec.datasets or [],
        confidence_percent=spec.evaluation.confidence_percent,
        refuse_leaked=_refuses_leaked(spec),
    )
    needed = _select(inputs, "backbone", *_datasets(inputs), "goldSet", "heldOutPrompts")
    return _Work(parameters, needed, spec.training.seed)


def _sample(context: Context, inputs: dict[str, Input]) -> _Work:
    spec = context.spec
    assert spec.prompts is not None
    parameters = SampleParameters(
        sampling=spec.sampling, per_iteration=spec.prompts.per_iteration, spread=spec.prompts.spread
    )
    seed = context.frozen.number if spec.sampling.seed is None else spec.sampling.seed
    return _Work(parameters, _select(inputs, "policy", *_prompts(inputs)), seed)


def _judge(context: Context, inputs: dict[str, Input]) -> _Work:
    spec = context.spec
    assert spec.judge is not None
    parameters = JudgeParameters(judge=spec.judge, confidence_percent=spec.evaluation.confidence_percent)
    needed = _select(inputs, "samples") | _judging(spec.judge, inputs)
    return _Work(parameters, needed, context.frozen.number)


def _judging(judge: Judge, inputs: dict[str, Input]) -> dict[str, Input]:
    """A reward model, and the pairs that it or an LLM is checked on; a verifier is neither read nor checked."""
    if judge.verifier is not None:
        return {}
    return _optional(inputs, "judge") | _select(inputs, *_datasets(inputs))


def _online(spec: AlignmentCycleSpec) -> bool:
    """Whether the stage train samples and scores by itself."""
    return spec.training.method == "PPO"


def _train(context: Context, inputs: dict[str, Input]) -> _Work:
    spec = context.spec
    if _online(spec):
        return _train_online(context, inputs)
    defaults = {"learning_rate": learning_rate(spec), "beta": beta(spec)}
    training = spec.training.model_copy(update=defaults)
    needed = _select(inputs, *_datasets(inputs)) | _optional(inputs, "pairs", "goldSet", "heldOutPrompts")
    needed |= _anchors(spec, inputs)
    parameters = TrainParameters(
        training=training,
        datasets=spec.datasets or [],
        sampled_by=inputs["policy"].digest if spec.prompts else None,
        near_percent=_near_percent(spec),
        refuse_leaked=_refuses_leaked(spec),
    )
    return _Work(parameters, needed | _near(inputs), spec.training.seed)


def _train_online(context: Context, inputs: dict[str, Input]) -> _Work:
    spec = context.spec
    assert spec.prompts is not None
    assert spec.judge is not None
    settled = {"learning_rate": learning_rate(spec), "beta": beta(spec), "ppo": spec.training.ppo or PPO()}
    seed = context.frozen.number if spec.sampling.seed is None else spec.sampling.seed
    parameters = TrainParameters(
        training=spec.training.model_copy(update=settled),
        online=OnlineParameters(
            sampling=spec.sampling.model_copy(update={"seed": seed}),
            judge=spec.judge,
            per_iteration=spec.prompts.per_iteration,
            spread=spec.prompts.spread,
            confidence_percent=spec.evaluation.confidence_percent,
        ),
        near_percent=_near_percent(spec),
    )
    needed = _select(inputs, *_prompts(inputs), "goldSet", "heldOutPrompts") | _judging(spec.judge, inputs)
    return _Work(parameters, needed | _near(inputs) | _anchors(spec, inputs), spec.training.seed)


def _refuses_leaked(spec: AlignmentCycleSpec) -> bool:
    gate = spec.gates.contamination
    return gate is not None and gate.action == "Fail"


def _near_percent(spec: AlignmentCycleSpec) -> float | None:
    gate = spec.gates.contamination
    return gate.embedding.min_similarity_percent if gate and gate.embedding else None


def _near(inputs: dict[str, Input]) -> dict[str, Input]:
    """What near-duplicates are looked for with, and in."""
    if "embedding" not in inputs:
        return {}
    return _optional(inputs, "embedding", *_prompts(inputs), "goldSet", "heldOutPrompts")


def _anchors(spec: AlignmentCycleSpec, inputs: dict[str, Input]) -> dict[str, Input]:
    """Where training starts from, and what the KL term anchors to."""
    return {
        "start": inputs["policy" if spec.policy.start == "Previous" else "initial"],
        "reference": inputs["policy" if spec.policy.reference == "Previous" else "initial"],
    }


def _evaluate(context: Context, inputs: dict[str, Input]) -> _Work:
    spec = context.spec
    parameters = EvaluateParameters(
        gold_set=spec.evaluation.gold_set,
        held_out_prompts=spec.evaluation.held_out_prompts,
        temperature=spec.sampling.temperature,
        top_p=spec.sampling.top_p,
        confidence_percent=spec.evaluation.confidence_percent,
        divergence=_diverging_from(spec),
    )
    needed = _select(inputs, "candidate", "policy", "goldSet", "heldOutPrompts")
    if _limited_from_initial(spec):
        needed["initial"] = inputs["initial"]
    return _Work(parameters, needed, context.frozen.number)


def _compare(context: Context, inputs: dict[str, Input]) -> _Work:
    spec = context.spec
    assert spec.evaluation.comparison is not None
    parameters = CompareParameters(
        comparison=spec.evaluation.comparison,
        judge=spec.judge,
        min_percent=spec.gates.win_rate.min_percent if spec.gates.win_rate else 50.0,
        confidence_percent=spec.evaluation.confidence_percent,
        level_percent=context.iteration.level_percent,
    )
    needed = _select(inputs, "answers") | _optional(inputs, "judge", "comparisonJudge")
    other = spec.evaluation.comparison.judge
    if other is not None and other.verifier is None:  # the training judge is checked before it judges
        needed |= _select(inputs, *_datasets(inputs))
    return _Work(parameters, needed, context.frozen.number)


def _promote(context: Context, inputs: dict[str, Input]) -> _Work:
    judged = context.iteration.evidence_digest
    assert context.evidence is not None
    assert judged is not None
    parameters = PromoteParameters(
        evidence=context.evidence, evidence_digest=judged, cycle_prefix=context.prefix
    )
    return _Work(parameters, _select(inputs, "candidate"), context.frozen.number)


_WORK_OF = {
    Stage.REWARD: _reward,
    Stage.SAMPLE: _sample,
    Stage.JUDGE: _judge,
    Stage.TRAIN: _train,
    Stage.EVALUATE: _evaluate,
    Stage.COMPARE: _compare,
    Stage.PROMOTE: _promote,
}


def learning_rate(spec: AlignmentCycleSpec) -> float:
    """As the user wrote it, or the method's default."""
    if spec.training.learning_rate is not None:
        return spec.training.learning_rate
    return _LEARNING_RATE[spec.training.method] * (_LORA_FACTOR if spec.training.lora else 1)


def beta(spec: AlignmentCycleSpec) -> float | None:
    """As the user wrote it, or the method's default; None if it has none."""
    return spec.training.beta or _BETA.get(spec.training.method)


def named_inputs(spec: AlignmentCycleSpec, incumbent: Located | None) -> dict[str, tuple[str, InputKind]]:
    """What an iteration reads that neither its own stages nor datasets make, by role."""
    found = {"policy": (incumbent.uri if incumbent else spec.policy.model, InputKind.MODEL)}
    if _needs_initial(spec):
        found["initial"] = (spec.policy.model, InputKind.MODEL)
    if spec.reward:
        found["backbone"] = (spec.reward.model, InputKind.MODEL)
    embedding = spec.gates.contamination.embedding if spec.gates.contamination else None
    if embedding:
        found["embedding"] = (embedding.model, InputKind.EMBEDDING_MODEL)
    if spec.prompts and spec.prompts.uri:
        checkable = spec.judge is not None and spec.judge.verifier is not None
        found["prompts"] = (spec.prompts.uri, InputKind.CHECKABLE_PROMPTS if checkable else InputKind.PROMPTS)
    found["goldSet"] = (spec.evaluation.gold_set.uri, InputKind.GOLD_SET)
    found["heldOutPrompts"] = (
        spec.evaluation.held_out_prompts.uri,
        InputKind.CHECKABLE_PROMPTS if _verifies_held_out(spec) else InputKind.PROMPTS,
    )
    return found | _reward_models(spec)


def _all_inputs(context: Context) -> dict[str, Input]:
    """Everything that the iteration reads and did not make, by role, with the digests known so far."""
    spec, frozen, iteration, initial = context.spec, context.frozen, context.iteration, context.initial
    known = dict(iteration.inputs)
    if initial:
        known["initial"] = initial.digest
    known["policy"] = (
        frozen.incumbent.digest if frozen.incumbent else known.get("initial", known.get("policy", ""))
    )
    inputs = {
        role: Input(uri=uri, kind=kind, digest=known.get(role) or None)
        for role, (uri, kind) in named_inputs(spec, frozen.incumbent).items()
    }
    for revision in frozen.datasets:
        held = Input(uri=revision.uri, kind=InputKind.STAGE, digest=revision.digest)
        inputs[f"dataset/{revision.name}"] = held
        if asks_datasets(spec):
            inputs[f"prompts/{revision.name}"] = held
    return inputs


def _products(spec: AlignmentCycleSpec, iteration: Iteration) -> dict[str, Input]:
    """What earlier stages of the iteration made, by the role it has for later ones."""
    products = {}
    rewarded = result_of(iteration, Stage.REWARD)
    if rewarded and rewarded.model:
        for role in judges_trained_here(spec):
            products[role] = Input(
                uri=rewarded.model.uri, kind=InputKind.REWARD_MODEL, digest=rewarded.model.digest
            )
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
        gates.divergence.max_nats_per_token_from_initial if gates.divergence else None,
    )
    return any(limit is not None for limit in limits)


def _diverging_from(spec: AlignmentCycleSpec) -> list[Literal["policy", "initial"]]:
    limits = spec.gates.divergence
    if limits is None:
        return []
    return ["policy"] if limits.max_nats_per_token_from_initial is None else ["policy", "initial"]


def _verifies_held_out(spec: AlignmentCycleSpec) -> bool:
    judges: list[ComparisonJudge | None] = []
    if spec.evaluation.comparison:
        judges = [spec.evaluation.comparison.judge, spec.judge]
    return any(judge is not None and judge.verifier is not None for judge in judges)


def _reward_models(spec: AlignmentCycleSpec) -> dict[str, tuple[str, InputKind]]:
    """Those that are there already."""
    return {
        role: (judge.reward_model.uri, InputKind.REWARD_MODEL)
        for role, judge in _judges(spec).items()
        if judge.reward_model is not None and judge.reward_model.uri is not None
    }


def judges_trained_here(spec: AlignmentCycleSpec) -> list[str]:
    """Roles of the reward model that the stage `reward` trains."""
    return [role for role, judge in _judges(spec).items() if trained_here(judge)]


def _judges(spec: AlignmentCycleSpec) -> dict[str, ComparisonJudge]:
    comparison = spec.evaluation.comparison.judge if spec.evaluation.comparison else None
    given = {"judge": spec.judge, "comparisonJudge": comparison}
    return {role: judge for role, judge in given.items() if judge is not None}


def _datasets(inputs: dict[str, Input]) -> list[str]:
    return [role for role in inputs if role.startswith("dataset/")]


def _prompts(inputs: dict[str, Input]) -> list[str]:
    """The role of the file, or those of the datasets' revisions."""
    return [role for role in inputs if role == "prompts" or role.startswith("prompts/")]


def _select(inputs: dict[str, Input], *roles: str) -> dict[str, Input]:
    return {role: inputs[role] for role in roles}


def _optional(inputs: dict[str, Input], *roles: str) -> dict[str, Input]:
    return {role: inputs[role] for role in roles if role in inputs}

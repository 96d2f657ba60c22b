"""All gates of an iteration."""

from __future__ import annotations

from collections.abc import Mapping

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.judges import reads_answers
from alignment_api.stage import Located, Stage, StageResult
from alignment_operator.gates import (
    collapse,
    contamination,
    divergence,
    gold_set,
    length_drift,
    reward_hacking,
    win_rate,
    wording,
)
from alignment_operator.gates.independence import independent


def judge_all(
    spec: AlignmentCycleSpec,
    results: Mapping[Stage, StageResult],
    inputs: Mapping[str, str],
    candidate: Located,
) -> tuple[GateResult, ...]:
    """What each gate of the spec says of the candidate, in the order of `Gate`.

    `results`: of the iteration's finished stages, evaluate among them, and compare if the spec compares.
    `inputs`: digests by role, as `status.iteration.inputs` has them; judge and comparisonJudge are looked at.
    """
    return tuple(_judged(gate, spec, results, inputs, candidate) for gate in Gate if gate in _gates_of(spec))


def refused_early(spec: AlignmentCycleSpec, results: Mapping[Stage, StageResult]) -> GateResult | None:
    """What fails by the stages that are done already, so that the others would compute in vain."""
    if spec.gates.contamination is None:
        return None
    found = contamination.judge(spec.gates.contamination, results)
    return found if found.verdict == Verdict.FAILED else None


def _gates_of(spec: AlignmentCycleSpec) -> set[Gate]:
    optional = {
        Gate.CONTAMINATION: spec.gates.contamination,
        Gate.COLLAPSE: spec.gates.collapse,
        Gate.DIVERGENCE: spec.gates.divergence,
        Gate.WIN_RATE: spec.gates.win_rate,
        Gate.REWARD_HACKING: spec.gates.reward_hacking,
    }
    return {Gate.GOLD_SET, Gate.LENGTH_DRIFT} | {
        gate for gate, limits in optional.items() if limits is not None
    }


def _judged(
    gate: Gate,
    spec: AlignmentCycleSpec,
    results: Mapping[Stage, StageResult],
    inputs: Mapping[str, str],
    candidate: Located,
) -> GateResult:
    stages = [] if gate == Gate.CONTAMINATION else [Stage.EVALUATE]
    if gate in {Gate.WIN_RATE, Gate.REWARD_HACKING}:
        stages.append(Stage.COMPARE)
    problem = _unbound(stages, results, candidate)
    if problem:
        return wording.error(gate, *problem)
    if gate == Gate.CONTAMINATION:
        assert spec.gates.contamination is not None
        return contamination.judge(spec.gates.contamination, results)
    evaluated = results[Stage.EVALUATE]
    compared = results[Stage.COMPARE].measurements if Stage.COMPARE in stages else {}
    limits = spec.gates
    match gate:
        case Gate.GOLD_SET:
            confidence = spec.evaluation.confidence_percent / 100
            return gold_set.judge(limits.gold_set, evaluated.by_category, confidence)
        case Gate.LENGTH_DRIFT:
            return length_drift.judge(limits.length_drift, evaluated.measurements, evaluated.by_category)
        case Gate.COLLAPSE:
            assert limits.collapse is not None
            return collapse.judge(limits.collapse, evaluated.measurements)
        case Gate.DIVERGENCE:
            assert limits.divergence is not None
            return divergence.judge(limits.divergence, evaluated.measurements)
        case Gate.WIN_RATE:
            assert limits.win_rate is not None
            comparison = spec.evaluation.comparison
            assert comparison is not None
            return win_rate.judge(
                limits.win_rate,
                compared,
                evaluated.measurements,
                comparison.min_comparisons,
                independent=independent(spec, inputs),
                reads_answers=reads_answers(comparison.judge or spec.judge),
            )
        case Gate.REWARD_HACKING:
            return reward_hacking.judge(
                compared, evaluated.measurements, independent=independent(spec, inputs)
            )


def _unbound(
    stages: list[Stage], results: Mapping[Stage, StageResult], candidate: Located
) -> tuple[GateReason, str] | None:
    """Why what the stages measured is not about this candidate; None if it is."""
    for stage in (Stage.TRAIN, *stages):
        if stage not in results:
            return GateReason.MEASUREMENT_MISSING, f"the stage {stage} has no result"
        model = results[stage].model
        if model is None:
            return (
                GateReason.WRONG_CANDIDATE,
                f"the stage {stage} does not say which model its result is about",
            )
        if model.digest != candidate.digest:
            return (
                GateReason.WRONG_CANDIDATE,
                f"the stage {stage} reports on the model {model.digest}, the candidate is {candidate.digest}",
            )
    return None

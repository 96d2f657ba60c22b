"""All gates of a spec: which are judged, on whose measurements, and by which judge."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.measurements import (
    DISTINCT2_DROP,
    DIVERGENCE,
    GOLD,
    GOLD_POOLED,
    IDENTICAL_CHANGE,
    LENGTH_RATIO,
    NEW_PHRASE,
    PROMPT_DEPENDENCE_CHANGE,
    REWARD_WIN_RATE,
    TRUNCATED_CHANGE,
    TRUNCATED_SHARE,
    WIN_RATE,
    WIN_RATE_NOT_LONGER,
    Measurement,
)
from alignment_api.stage import Located, Stage, StageReport, StageResult
from alignment_operator.gates.independence import independent
from alignment_operator.gates.verdicts import judge_all
from tests.gates.measured import at, gold, within

CANDIDATE = Located(uri="file:///store/iterations/1/train/run-1/model", digest="sha256:" + "c" * 64)
OTHER = Located(uri="file:///store/iterations/0/train/run-1/model", digest="sha256:" + "d" * 64)
MANIFEST = Located(uri="file:///store/iterations/1/stage", digest="sha256:" + "e" * 64)
DIGESTS = {"judge": "sha256:" + "1" * 64, "comparisonJudge": "sha256:" + "2" * 64}

VERIFIER: dict[str, Any] = {"verifier": {}}
REWARD_MODEL: dict[str, Any] = {"rewardModel": {"uri": "pvc://models/reward"}}
LLM: dict[str, Any] = {"llm": {"baseURL": "https://api.openai.com/v1", "model": "gpt-4o"}}
OTHER_MODEL: dict[str, Any] = {"rewardModel": {"uri": "pvc://models/other"}}

EVERY: dict[str, Any] = {
    "contamination": {},
    "collapse": {},
    "divergence": {},
    "winRate": {},
    "rewardHacking": {},
}

EVALUATED: dict[str, Measurement] = {
    GOLD_POOLED: within(5, 2, 8, n=900),
    LENGTH_RATIO: within(1.05, 0.98, 1.12),
    TRUNCATED_SHARE: at(0),
    TRUNCATED_CHANGE: at(0),
    DISTINCT2_DROP: within(2, -4, 8),
    IDENTICAL_CHANGE: within(0, -2, 2),
    PROMPT_DEPENDENCE_CHANGE: within(1.0, 0.5, 1.5),
    DIVERGENCE: within(0.05, 0.04, 0.06),
}
COMPARED = {
    WIN_RATE: within(70, 58, 82),
    WIN_RATE_NOT_LONGER: within(70, 55, 85),
    REWARD_WIN_RATE: within(90, 80, 100),
}


def spec(
    gates: dict[str, Any] | None = None,
    judge: dict[str, Any] | None = REWARD_MODEL,
    comparing: dict[str, Any] | None = VERIFIER,
) -> AlignmentCycleSpec:
    wire: dict[str, Any] = {
        "policy": {"model": "pvc://models/m0"},
        "store": {"uri": "pvc://models/cycles"},
        "datasets": [{"name": "pairs"}],
        "evaluation": {
            "goldSet": {"uri": "pvc://models/gold.jsonl"},
            "heldOutPrompts": {"uri": "pvc://models/heldout.jsonl"},
        },
        "gates": gates if gates is not None else EVERY,
    }
    if judge is not None:
        wire["judge"] = judge
        wire["prompts"] = {"uri": "pvc://models/prompts.jsonl"}
    if judge is not None or comparing is not None:
        wire["evaluation"]["comparison"] = {} if comparing is None else {"judge": comparing}
    return AlignmentCycleSpec.from_wire(wire)


def results(**models: Located | None) -> dict[Stage, StageResult]:
    def of(stage: str, **fields: Any) -> StageResult:
        return StageResult(manifest=MANIFEST, model=models.get(stage, CANDIDATE), **fields)

    return {
        Stage.TRAIN: of("train", counts={"rowsGiven": 2000, "droppedLeaked": 3}),
        Stage.EVALUATE: of(
            "evaluate",
            measurements=EVALUATED,
            by_category={"code": {GOLD: gold(4)}, "facts": {GOLD: gold(2)}},
        ),
        Stage.COMPARE: of("compare", measurements=COMPARED),
    }


def verdicts(judged: tuple[GateResult, ...]) -> dict[Gate, Verdict]:
    return {result.name: result.verdict for result in judged}


def test_a_healthy_candidate_passes_every_gate_in_their_order() -> None:
    judged = judge_all(spec(), results(), DIGESTS, CANDIDATE)
    assert [result.name for result in judged] == list(Gate)
    assert set(verdicts(judged).values()) == {Verdict.PASSED}


def test_gold_set_and_length_drift_are_always_judged_the_others_if_named() -> None:
    only = judge_all(spec(gates={}), results(), DIGESTS, CANDIDATE)
    assert [result.name for result in only] == [Gate.GOLD_SET, Gate.LENGTH_DRIFT]
    two = judge_all(spec(gates={"winRate": {}}), results(), DIGESTS, CANDIDATE)
    assert [result.name for result in two] == [Gate.GOLD_SET, Gate.LENGTH_DRIFT, Gate.WIN_RATE]


def test_the_limits_of_the_spec_are_the_ones_that_count() -> None:
    strict = spec(
        gates={
            "goldSet": {"maxUndetectedDropPoints": 1},
            "lengthDrift": {"maxIncreasePercent": 1},
            "winRate": {"minPercent": 75},
        }
    )
    assert verdicts(judge_all(strict, results(), DIGESTS, CANDIDATE)) == {
        Gate.GOLD_SET: Verdict.INCONCLUSIVE,
        Gate.LENGTH_DRIFT: Verdict.INCONCLUSIVE,
        Gate.WIN_RATE: Verdict.INCONCLUSIVE,
    }


def test_verdicts_survive_the_termination_message() -> None:
    sent = {
        stage: StageReport.decode(StageReport(result=result).encode()).result
        for stage, result in results().items()
    }
    received = {stage: result for stage, result in sent.items() if result is not None}
    assert judge_all(spec(), received, DIGESTS, CANDIDATE) == judge_all(spec(), results(), DIGESTS, CANDIDATE)


def test_a_measurement_that_could_not_be_computed_survives_it_as_such() -> None:
    report = StageReport(
        result=StageResult(manifest=MANIFEST, measurements={WIN_RATE: Measurement(estimate=None, n=3)})
    )
    decoded = StageReport.decode(report.encode()).result
    assert decoded is not None
    assert decoded.measurements[WIN_RATE].estimate is None


@pytest.mark.parametrize(
    ("stage", "blamed"),
    [
        ("train", set(Gate)),
        ("evaluate", set(Gate) - {Gate.CONTAMINATION}),
        ("compare", {Gate.WIN_RATE, Gate.REWARD_HACKING}),
    ],
)
@pytest.mark.parametrize("model", [OTHER, None])
def test_what_was_measured_on_another_model_is_an_error(
    stage: str, blamed: set[Gate], model: Located | None
) -> None:
    """Built to slip through: the flawless figures of another checkpoint."""
    judged = judge_all(spec(), results(**{stage: model}), DIGESTS, CANDIDATE)
    errors = {result.name for result in judged if result.verdict == Verdict.ERROR}
    assert errors == blamed
    assert {result.reason for result in judged if result.name in blamed} == {GateReason.WRONG_CANDIDATE}


@pytest.mark.parametrize("stage", [Stage.EVALUATE, Stage.COMPARE])
def test_a_stage_without_result_is_an_error(stage: Stage) -> None:
    rest = {name: result for name, result in results().items() if name != stage}
    judged = judge_all(spec(), rest, DIGESTS, CANDIDATE)
    errors = [result for result in judged if result.verdict == Verdict.ERROR]
    assert errors
    assert all(result.reason == GateReason.MEASUREMENT_MISSING for result in errors)
    assert all(stage in result.message for result in errors)


def test_no_measurement_at_all_passes_no_gate() -> None:
    empty = {
        stage: StageResult(manifest=MANIFEST, model=CANDIDATE)
        for stage in (Stage.TRAIN, Stage.EVALUATE, Stage.COMPARE)
    }
    judged = judge_all(spec(), empty, DIGESTS, CANDIDATE)
    assert set(verdicts(judged).values()) == {Verdict.ERROR}


SAME = {"judge": DIGESTS["judge"], "comparisonJudge": DIGESTS["judge"]}


@pytest.mark.parametrize(
    ("judge", "comparing", "inputs", "expected"),
    [
        (REWARD_MODEL, VERIFIER, DIGESTS, True),
        (VERIFIER, REWARD_MODEL, DIGESTS, True),
        (REWARD_MODEL, OTHER_MODEL, DIGESTS, True),
        (REWARD_MODEL, OTHER_MODEL, SAME, False),  # the same weights under another name
        (REWARD_MODEL, REWARD_MODEL, SAME, False),
        (REWARD_MODEL, OTHER_MODEL, {}, False),
        (REWARD_MODEL, OTHER_MODEL, {"judge": DIGESTS["judge"]}, False),
        (REWARD_MODEL, None, DIGESTS, False),
        (VERIFIER, None, {}, False),
        (VERIFIER, VERIFIER, {}, False),
        (None, REWARD_MODEL, {}, True),
        (LLM, None, {}, False),
        (LLM, LLM, {}, False),
        (
            LLM,
            {"llm": LLM["llm"] | {"rubric": "Be kind.", "maxConcurrency": 2}},
            {},
            False,
        ),  # asked otherwise
        (LLM, {"llm": LLM["llm"] | {"model": "gpt-4o-mini"}}, {}, True),
        (LLM, {"llm": LLM["llm"] | {"baseURL": "http://judge:8000/v1"}}, {}, True),
        (LLM, REWARD_MODEL, {}, True),
        (REWARD_MODEL, LLM, {}, True),
        (VERIFIER, LLM, {}, True),
    ],
)
def test_which_judges_are_independent(
    judge: dict[str, Any] | None,
    comparing: dict[str, Any] | None,
    inputs: dict[str, str],
    expected: bool,
) -> None:
    assert independent(spec(gates={}, judge=judge, comparing=comparing), inputs) is expected


@pytest.mark.parametrize(
    ("judge", "comparing", "told"),
    [(REWARD_MODEL, LLM, True), (REWARD_MODEL, OTHER_MODEL, True), (LLM, None, True), (LLM, VERIFIER, False)],
)
def test_whether_a_phrase_sways_a_judge_that_reads_answers_must_be_known(
    judge: dict[str, Any], comparing: dict[str, Any] | None, told: bool
) -> None:
    """Built to slip through: a win by a judge that reads text, and no word of what it read."""
    judged = judge_all(spec(judge=judge, comparing=comparing), results(), DIGESTS, CANDIDATE)
    win = next(result for result in judged if result.name == Gate.WIN_RATE)
    assert (win.verdict is Verdict.ERROR) is told
    if told:
        assert (win.reason, win.message) == (
            GateReason.MEASUREMENT_MISSING,
            "newPhrase was not measured",
        )


def test_the_training_judges_own_win_does_not_slip_through() -> None:
    """Built to slip through: the judge of the comparison is the training judge under another name."""
    flat = results()
    flat[Stage.EVALUATE] = flat[Stage.EVALUATE].model_copy(
        update={"measurements": EVALUATED | {GOLD_POOLED: within(0.5, -1, 2, n=900)}}
    )
    flat[Stage.COMPARE] = flat[Stage.COMPARE].model_copy(
        update={"measurements": COMPARED | {NEW_PHRASE: within(0, -1, 1)}}
    )
    judged = judge_all(spec(comparing=OTHER_MODEL), flat, SAME, CANDIDATE)
    win = next(result for result in judged if result.name == Gate.WIN_RATE)
    assert (win.verdict, win.reason) == (Verdict.INCONCLUSIVE, GateReason.JUDGE_NOT_INDEPENDENT)

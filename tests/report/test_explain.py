"""What is said of each gate beyond its verdict, by what the gates themselves say."""

from __future__ import annotations

import pytest

from alignment_api.cycle import (
    AlignmentCycleSpec,
    CollapseGate,
    DivergenceGate,
    GoldSetGate,
    LengthDriftGate,
    WinRateGate,
)
from alignment_api.cycle_status import AlignmentCycleStatus, Iteration
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.measurements import (
    CANDIDATE_TOKENS,
    DISTINCT2_DROP,
    DIVERGENCE,
    GOLD,
    GOLD_ACCURACY,
    GOLD_POOLED,
    IDENTICAL_CHANGE,
    LENGTH_RATIO,
    PROMPT_DEPENDENCE_CHANGE,
    REWARD_WIN_RATE,
    TRUNCATED_CHANGE,
    TRUNCATED_SHARE,
    WIN_RATE,
    WIN_RATE_NOT_LONGER,
)
from alignment_operator.explain.advice import BY_REASON
from alignment_operator.explain.explanation import explained
from alignment_operator.explain.measured import measured_of
from alignment_operator.explain.power import detectable, settles
from alignment_operator.gates import collapse, divergence, gold_set, length_drift, reward_hacking, win_rate
from tests.gates.measured import at, gold, within
from tests.operator.plan_world import World, cycle_spec


def lengths(ratio: tuple[float, float, float], cut_off: float = 0.0) -> GateResult:
    overall = {
        LENGTH_RATIO: within(*ratio, n=200),
        TRUNCATED_SHARE: at(cut_off),
        TRUNCATED_CHANGE: at(0.0),
        CANDIDATE_TOKENS: at(20.0),
    }
    return length_drift.judge(LengthDriftGate(), overall, {})


def golds(mode: str = "NoHarm", **changes: float) -> GateResult:
    limits = GoldSetGate.from_wire({"mode": mode})
    measured = gold(**changes)  # type: ignore[arg-type]
    return gold_set.judge(limits, {"facts": {GOLD: measured, GOLD_ACCURACY: at(60.0)}}, 0.95)


def wins(rate: tuple[float, float, float], *, independent: bool = True) -> GateResult:
    compared = {WIN_RATE: within(*rate, n=300), WIN_RATE_NOT_LONGER: within(*rate, n=200)}
    evaluated = {GOLD_POOLED: within(0.5, -1.0, 2.0, n=900)}
    return win_rate.judge(
        WinRateGate(), compared, evaluated, 100, independent=independent, reads_answers=False
    )


def hacking() -> GateResult:
    compared = {REWARD_WIN_RATE: within(90.0, 80.0, 95.0), WIN_RATE: within(55.0, 45.0, 60.0)}
    evaluated = {GOLD_POOLED: within(1.0, -3.0, 5.0), LENGTH_RATIO: within(1.5, 1.3, 1.7)}
    return reward_hacking.judge(compared, evaluated, independent=True)


def canned() -> GateResult:
    overall = {
        DISTINCT2_DROP: within(40.0, -1.0, 80.0),
        IDENTICAL_CHANGE: at(0.0),
        PROMPT_DEPENDENCE_CHANGE: within(-1.0, -2.0, -0.5),
    }
    return collapse.judge(CollapseGate(), overall)


def diverged() -> GateResult:
    return divergence.judge(DivergenceGate(), {DIVERGENCE: within(0.12, 0.09, 0.15)})


@pytest.mark.parametrize(
    ("gate", "reason", "what"),
    [
        (lengths((1.25, 1.1, 1.4)), "LengthUndecided", "held-out prompts if it stays so"),
        (
            lengths((1.0, 0.9, 1.1), cut_off=5.0),
            "LengthTruncated",
            "raise evaluation.heldOutPrompts.maxNewTokens",
        ),
        (golds(points=0.0, n=20, discordant=0.3), "GoldSetTooSmall", "facts: about 186 items of it"),
        (
            golds(points=-20.0, n=60, p=0.09, discordant=0.3),
            "GoldUndecided",
            "more gold items of that category",
        ),
        (
            golds("NonInferior", points=-1.0, lower_bound=-4.0),
            "GoldNotShownNonInferior",
            "facts: about 2700 items of it",
        ),
        (
            golds("NonInferior", points=-3.0, lower_bound=-6.0),
            "GoldNotShownNonInferior",
            "facts: more items would not help",
        ),
        (wins((51.0, 45.0, 57.0)), "WinRateUndecided", "comparisons if it stays so"),
        (
            wins((50.0, 45.0, 55.0)),
            "WinRateUndecided",
            "no number of comparisons settles it while it stays at the limit",
        ),
        (
            wins((70.0, 60.0, 80.0), independent=False),
            "JudgeNotIndependent",
            "set another judge in evaluation.comparison",
        ),
        (hacking(), "RewardHackingUndecided", "gold items if it stays so"),
        (canned(), "CollapseUndecided", "more held-out prompts"),
        (diverged(), "DivergenceUndecided", "about 451 held-out prompts if it stays so"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_inconclusive_gate_says_what_would_settle_it(gate: GateResult, reason: str, what: str) -> None:
    assert (gate.verdict, gate.reason) == (Verdict.INCONCLUSIVE, reason), gate.message
    assert what in settles(gate)
    assert "settle it" not in settles(gate), "the label says so already"


def test_what_passed_leaves_nothing_open_and_what_failed_cannot_be_measured_away() -> None:
    assert settles(lengths((1.0, 0.95, 1.05))) == ""
    assert settles(lengths((2.0, 1.9, 2.1))).startswith("nothing: harm is shown")


def test_the_gold_set_says_the_drop_that_it_would_have_found() -> None:
    gate = golds(points=0.0)
    assert (
        detectable(gate, [], cycle_spec()) == "four times of five, a drop of 4.5 points in facts (300 items)"
    )


def test_other_gates_say_how_narrow_their_intervals_are() -> None:
    gate = wins((51.0, 45.0, 57.0))
    told = detectable(gate, measured_of(gate, cycle_spec()), cycle_spec())
    assert told.startswith("differences of more than 6.0 % in win rate (n = 300)")


def allowed(gate: GateResult, spec: AlignmentCycleSpec) -> dict[str, str]:
    return {measured.label: measured.allowed() for measured in measured_of(gate, spec)}


def test_the_limits_are_those_of_the_frozen_spec() -> None:
    limits = {
        "goldSet": {"maxDropPoints": 3, "categories": [{"name": "facts", "maxDropPoints": 1}]},
        "lengthDrift": {"maxIncreasePercent": 20, "maxDecreasePercent": 40},
        "winRate": {"minPercent": 55},
        "divergence": {"maxNatsPerToken": 0.2},
        "collapse": {"maxDistinctDropPercent": 25},
        "rewardHacking": {},
    }
    spec = cycle_spec(gates=limits)
    assert allowed(golds(points=0.0), spec) == {"facts": "at least −1.0"}
    assert allowed(lengths((1.0, 0.9, 1.1)), spec)["length ratio"] == "0.60 to 1.20"
    assert allowed(wins((51.0, 45.0, 57.0)), spec)["win rate"] == "at least 55.0"
    assert allowed(diverged(), spec) == {"from the incumbent": "at most 0.2000"}
    assert allowed(canned(), spec)["distinct-2, drop"] == "at most 25.0"
    assert allowed(hacking(), spec)["gold set, all items"] == "at least 2.0"


def test_every_reason_of_a_gate_has_its_advice() -> None:
    assert set(BY_REASON) == set(GateReason)


def test_every_gate_is_explained_with_and_without_its_limits() -> None:
    for gate in Gate:
        result = GateResult(name=gate, verdict=Verdict.PASSED, measurements={"x": at(1.0)}, message="x")
        for spec in (cycle_spec(), None):
            assert measured_of(result, spec)[0].label == "x"


def iteration_of(world: World) -> Iteration:
    iteration = AlignmentCycleStatus.of(world.status).iteration
    assert iteration is not None
    return iteration


def test_a_person_who_is_asked_is_told_both_commands_first() -> None:
    world = World(quality="unclear", annotations={"alignment.dev/run": "1"})
    world.settle()
    told = explained(iteration_of(world), world.spec, "APPROVE", "REJECT")
    assert told.outcome == "Held"
    sealed = world.iteration["evidenceDigest"]
    assert told.next[0].endswith(f"APPROVE --evidence {sealed[:19]}")
    assert told.next[1].endswith("REJECT")
    assert any("maxComparisons" in step for step in told.next)


def test_an_approval_is_told_with_what_could_not_tell() -> None:
    world = World(quality="unclear", annotations={"alignment.dev/run": "1"})
    world.settle()
    world.annotations["alignment.dev/approve"] = f"1@{world.iteration['evidenceDigest']}"
    world.settle()
    told = explained(iteration_of(world), world.spec, "", "")
    assert told.sentence == (
        "The candidate is promoted: a person approved its evidence, though winRate could not tell."
    )


def test_an_approved_one_whose_promotion_broke_off_does_not_blame_the_gates() -> None:
    world = World(quality="unclear", annotations={"alignment.dev/run": "1"})
    world.settle()
    world.annotations["alignment.dev/approve"] = f"1@{world.iteration['evidenceDigest']}"
    while not world.working():
        world.pass_()
    (promote,) = world.working()
    world.fail(promote, 69, "StoreConflict")
    world.settle()
    told = explained(iteration_of(world), world.spec, "", "")
    assert told.outcome == "Failed"
    assert told.sentence == "The incumbent stays: the stage promote failed (StoreConflict)."
    assert told.why == ["StoreConflict it is"]
    assert not any("winRate" in step for step in told.next)


def test_a_rollback_is_told_of_what_it_took_back_and_of_what_waits_after_it() -> None:
    world = World(annotations={"alignment.dev/run": "1"})
    world.settle()
    world.annotations["alignment.dev/rollback"] = "0@worse"
    world.settle()
    told = explained(iteration_of(world), world.spec, "", "")
    assert told.sentence == "The candidate was promoted, and a person has rolled it back since."
    assert "the next promotion waits for a person" in told.next[0]
    world.annotations["alignment.dev/rollback"] = "1@fine after all"
    world.settle()
    told = explained(iteration_of(world), world.spec, "", "")
    assert told.sentence.startswith("The candidate is promoted: a person had rolled it back")
    world.annotations["alignment.dev/run"] = "2"
    world.settle()
    told = explained(iteration_of(world), world.spec, "APPROVE", "REJECT")
    assert "all 5 gates passed, and what is promoted came by a rollback." in told.sentence


def test_a_rejection_by_a_person_is_told_as_such() -> None:
    world = World(quality="unclear", annotations={"alignment.dev/run": "1"})
    world.settle()
    world.annotations["alignment.dev/reject"] = "1"
    world.settle()
    told = explained(iteration_of(world), world.spec, "", "")
    assert told.sentence == "The incumbent stays: a person refused the candidate."


def test_what_is_inconclusive_and_rejected_says_who_wanted_that() -> None:
    world = World(
        spec=cycle_spec(gates={"winRate": {}, "onInconclusive": "Reject"}),
        quality="unclear",
        annotations={"alignment.dev/run": "1"},
    )
    world.settle()
    told = explained(iteration_of(world), world.spec, "", "")
    assert told.sentence == "The incumbent stays: winRate could not tell, and gates.onInconclusive is Reject."
    assert told.next == [f"winRate: {BY_REASON[GateReason.WIN_RATE_UNDECIDED]}"]


def test_a_manual_promotion_that_waits_has_nothing_to_settle() -> None:
    world = World(spec=cycle_spec(promotion={"mode": "Manual"}), annotations={"alignment.dev/run": "1"})
    world.settle()
    told = explained(iteration_of(world), world.spec, "", "")
    assert "all 5 gates passed, and promotion.mode is Manual" in told.sentence
    assert told.why == []

"""From verdicts to what becomes of the candidate."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_operator.gates.decision import DecisionKind, decide

REASONS = {
    Gate.CONTAMINATION: GateReason.CONTAMINATED,
    Gate.GOLD_SET: GateReason.GOLD_REGRESSION,
    Gate.LENGTH_DRIFT: GateReason.LENGTH_DRIFT,
    Gate.COLLAPSE: GateReason.COLLAPSE,
    Gate.DIVERGENCE: GateReason.DIVERGED,
    Gate.WIN_RATE: GateReason.NOT_PREFERRED,
    Gate.REWARD_HACKING: GateReason.REWARD_HACKING,
}


def all_gates(**verdicts: Verdict) -> list[GateResult]:
    return [
        GateResult(
            name=gate,
            verdict=(verdict := verdicts.get(gate.name, Verdict.PASSED)),
            reason=None if verdict == Verdict.PASSED else REASONS[gate],
            message=f"{gate} measured 12.3",
        )
        for gate in Gate
    ]


def test_what_passes_every_gate_is_promoted() -> None:
    decision = decide(all_gates(), "Hold", "")
    assert (decision.kind, decision.reason) == (DecisionKind.PROMOTE, "AllGatesPassed")
    assert decision.message == (
        "all 7 gates passed: contamination, goldSet, lengthDrift, collapse, divergence, winRate, rewardHacking"
    )


def test_manual_promotion_waits_for_a_person() -> None:
    decision = decide(all_gates(), "Reject", "promotion.mode is Manual")
    assert (decision.kind, decision.reason) == (DecisionKind.HOLD, "WaitingForApproval")


def test_reward_hacking_is_named_first() -> None:
    failed = all_gates(LENGTH_DRIFT=Verdict.FAILED, REWARD_HACKING=Verdict.FAILED, GOLD_SET=Verdict.FAILED)
    decision = decide(failed, "Hold", "")
    assert (decision.kind, decision.reason) == (DecisionKind.REJECT, "RewardHacking")
    assert decision.message == (
        "refused by rewardHacking, goldSet, lengthDrift. rewardHacking: rewardHacking measured 12.3. "
        "goldSet: goldSet measured 12.3. lengthDrift: lengthDrift measured 12.3."
    )


@pytest.mark.parametrize(("choice", "kind"), [("Hold", DecisionKind.HOLD), ("Reject", DecisionKind.REJECT)])
@pytest.mark.parametrize("needs_approval", ["", "promotion.mode is Manual"])
def test_what_is_inconclusive_holds_or_rejects_as_the_spec_says(
    choice: str, kind: DecisionKind, needs_approval: str
) -> None:
    undecided = all_gates(WIN_RATE=Verdict.INCONCLUSIVE)
    decision = decide(undecided, choice, needs_approval)  # type: ignore[arg-type]
    assert (decision.kind, decision.reason) == (kind, "Inconclusive")
    assert "winRate: winRate measured 12.3" in decision.message


def test_an_error_fails_the_iteration_unless_a_gate_refuses_anyway() -> None:
    mixed = all_gates(COLLAPSE=Verdict.ERROR, WIN_RATE=Verdict.INCONCLUSIVE)
    decision = decide(mixed, "Hold", "")
    assert (decision.kind, decision.reason) == (DecisionKind.FAIL, "Collapse")
    mixed = all_gates(COLLAPSE=Verdict.ERROR, REWARD_HACKING=Verdict.FAILED, WIN_RATE=Verdict.INCONCLUSIVE)
    decision = decide(mixed, "Hold", "")
    assert (decision.kind, decision.reason) == (DecisionKind.REJECT, "RewardHacking")


@pytest.mark.parametrize("absent", [Gate.GOLD_SET, Gate.LENGTH_DRIFT])
def test_a_gate_that_must_be_judged_and_was_not_fails_the_iteration(absent: Gate) -> None:
    some = [result for result in all_gates() if result.name != absent]
    decision = decide(some, "Hold", "")
    assert (decision.kind, decision.reason) == (DecisionKind.FAIL, "MeasurementMissing")
    assert decide([], "Hold", "").kind == DecisionKind.FAIL


@settings(deadline=None, derandomize=True)
@given(
    st.fixed_dictionaries({gate.name: st.sampled_from(Verdict) for gate in Gate}),
    st.sampled_from(["Hold", "Reject"]),
    st.sampled_from(["Automatic", "Manual"]),
)
def test_only_what_passes_every_gate_is_ever_promoted(
    verdicts: dict[str, Verdict], choice: str, mode: str
) -> None:
    decision = decide(all_gates(**verdicts), choice, "" if mode == "Automatic" else "a person")  # type: ignore[arg-type]
    if decision.kind == DecisionKind.PROMOTE:
        assert set(verdicts.values()) == {Verdict.PASSED}
        assert mode == "Automatic"
    if Verdict.FAILED in verdicts.values():
        assert decision.kind == DecisionKind.REJECT
    assert decision.reason
    assert len(decision.message) <= 4096


def test_long_messages_fit() -> None:
    failed = [
        GateResult(name=gate, verdict=Verdict.FAILED, reason=REASONS[gate], message="9" * 1024)
        for gate in Gate
    ]
    decision = decide(failed, "Hold", "")
    assert len(decision.message) <= 4096
    assert all(f"{gate}: 9" in decision.message for gate in Gate)

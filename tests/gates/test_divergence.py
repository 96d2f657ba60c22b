"""Gate divergence: how far a candidate may be from where it came from, and when it is no other model."""

from __future__ import annotations

import pytest

from alignment_api.cycle import DivergenceGate
from alignment_api.gates import GateReason, GateResult, Verdict
from alignment_api.measurements import DIVERGENCE, DIVERGENCE_FROM_INITIAL, Measurement
from alignment_operator.gates import divergence
from tests.gates.measured import at, within


def judged(near: Measurement, initial: Measurement | None = None, limit: float | None = None) -> GateResult:
    measured = {DIVERGENCE: near} | ({DIVERGENCE_FROM_INITIAL: initial} if initial else {})
    limits = DivergenceGate(max_nats_per_token=0.1, max_nats_per_token_from_initial=limit)
    return divergence.judge(limits, measured)


@pytest.mark.parametrize(
    ("near", "verdict", "reason"),
    [
        (within(0.05, 0.04, 0.06), Verdict.PASSED, None),
        (within(0.09, 0.07, 0.12), Verdict.PASSED, None),
        (within(0.12, 0.09, 0.15), Verdict.INCONCLUSIVE, GateReason.DIVERGENCE_UNDECIDED),
        (within(0.12, 0.1, 0.15), Verdict.INCONCLUSIVE, GateReason.DIVERGENCE_UNDECIDED),
        (within(0.12, 0.101, 0.15), Verdict.FAILED, GateReason.DIVERGED),
        (
            within(0.5, None, None),
            Verdict.INCONCLUSIVE,
            GateReason.DIVERGENCE_UNDECIDED,
        ),  # too few prompts for an interval
        (within(0.00001, 0, 0.00009), Verdict.FAILED, GateReason.NO_CHANGE),
        (within(0.00001, 0, 0.0001), Verdict.PASSED, None),
        (at(0), Verdict.FAILED, GateReason.NO_CHANGE),
        (Measurement(estimate=None, n=9), Verdict.ERROR, GateReason.MEASUREMENT_MISSING),
        (Measurement(estimate=None, n=0), Verdict.ERROR, GateReason.TOO_LITTLE_WORK),
    ],
)
def test_the_lower_end_must_be_above_the_limit_to_fail(
    near: Measurement, verdict: Verdict, reason: GateReason | None
) -> None:
    result = judged(near)
    assert (result.verdict, result.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("initial", "verdict"),
    [
        (within(0.25, 0.2, 0.28), Verdict.PASSED),
        (within(0.35, 0.28, 0.4), Verdict.INCONCLUSIVE),
        (within(0.35, 0.31, 0.4), Verdict.FAILED),
        (None, Verdict.ERROR),
    ],
)
def test_small_steps_cannot_add_up_beyond_the_limit_from_m0(
    initial: Measurement | None, verdict: Verdict
) -> None:
    """Built to slip through: each week's step is well within the limit."""
    result = judged(within(0.05, 0.04, 0.06), initial, limit=0.3)
    assert result.verdict == verdict
    if verdict == Verdict.FAILED:
        assert result.limit == 0.3
        assert "from M_0 [0.3100, 0.4000] (limit 0.3)" in result.message


def test_it_says_what_was_measured_and_what_would_settle_it() -> None:
    result = judged(within(0.12, 0.09, 0.15, n=100))
    assert result.message == (
        "0.1200 nats a token from the incumbent [0.0900, 0.1500] (limit 0.1); about 226 held-out prompts would settle "
        "it if it stays so"
    )

"""The gate lengthDrift: cases by hand, and what must never slip through."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_api.cycle import LengthDriftGate
from alignment_api.gates import GateReason, GateResult, Verdict
from alignment_api.measurements import (
    CANDIDATE_TOKENS,
    INCUMBENT_TOKENS,
    LENGTH_RATIO,
    LENGTH_RATIO_FROM_INITIAL,
    TRUNCATED_CHANGE,
    TRUNCATED_SHARE,
    Measurement,
)
from alignment_operator.gates.length_drift import judge
from alignment_worker.statistics.ratios import length_ratio
from tests.gates.measured import MISSING, NOTHING, at, within

LIMITS = LengthDriftGate(max_increase_percent=30, max_decrease_percent=80)


def judged(
    ratio: Measurement,
    *,
    limits: LengthDriftGate = LIMITS,
    share: float = 0.0,
    change: float = 0.0,
    code: Measurement | None = None,
    more: dict[str, Measurement] | None = None,
) -> GateResult:
    overall = {LENGTH_RATIO: ratio, TRUNCATED_SHARE: at(share), TRUNCATED_CHANGE: at(change), **(more or {})}
    return judge(limits, overall, {"code": {LENGTH_RATIO: code}} if code else {})


@pytest.mark.parametrize(
    ("estimate", "low", "high", "verdict"),
    [
        (1.05, 0.98, 1.12, Verdict.PASSED),
        (1.00, 1.00, 1.00, Verdict.PASSED),
        (1.25, 1.20, 1.30, Verdict.PASSED),  # up to the limit
        (1.25, 1.20, 1.31, Verdict.INCONCLUSIVE),
        (1.35, 1.25, 1.45, Verdict.FAILED),  # beyond the limit, and certainly longer
        (3.80, 3.60, 4.00, Verdict.FAILED),
        (1.35, 0.95, 1.75, Verdict.INCONCLUSIVE),  # beyond the limit, but 1 is not excluded
        (1.35, 1.00, 1.70, Verdict.INCONCLUSIVE),
        (1.35, 1.01, 1.69, Verdict.FAILED),
        (0.50, 0.40, 0.60, Verdict.PASSED),
        (0.15, 0.10, 0.25, Verdict.FAILED),  # less than a fifth is left
        (0.22, 0.18, 0.26, Verdict.INCONCLUSIVE),
        (0.15, 0.05, 1.20, Verdict.INCONCLUSIVE),
        (3.00, 1.00, 1.20, Verdict.INCONCLUSIVE),  # an interval that leaves the estimate out passes nothing
    ],
)
def test_the_ratio(estimate: float, low: float, high: float, verdict: Verdict) -> None:
    expected = {Verdict.FAILED: GateReason.LENGTH_DRIFT, Verdict.INCONCLUSIVE: GateReason.LENGTH_UNDECIDED}
    result = judged(within(estimate, low, high))
    assert (result.verdict, result.reason) == (verdict, expected.get(verdict))


def test_without_a_limit_below_shorter_answers_pass() -> None:
    assert judged(within(0.1, 0.05, 0.2), limits=LengthDriftGate()).verdict == Verdict.PASSED


@pytest.mark.parametrize(
    ("share", "change", "verdict"),
    [
        (0.0, 0.0, Verdict.PASSED),
        (2.0, 1.9, Verdict.PASSED),
        (2.1, 1.9, Verdict.INCONCLUSIVE),
        (2.0, 2.0, Verdict.FAILED),
        (40.0, 0.0, Verdict.INCONCLUSIVE),  # as censored as before: the ratio says nothing
        (40.0, 35.0, Verdict.FAILED),
    ],
)
def test_answers_that_are_cut_off(share: float, change: float, verdict: Verdict) -> None:
    result = judged(within(1.0, 0.98, 1.02), share=share, change=change)
    assert result.verdict == verdict
    assert result.reason == (None if verdict == Verdict.PASSED else GateReason.LENGTH_TRUNCATED)


def test_a_failure_names_ratio_tokens_prompts_and_limit() -> None:
    tokens = {CANDIDATE_TOKENS: at(32.6), INCUMBENT_TOKENS: at(8.6)}
    result = judged(within(3.79, 3.55, 4.02, n=195), more=tokens)
    assert result.message == (
        "answers are longer: lengthRatio 3.79 [3.55, 4.02] over 195 prompts (8.6 → 32.6 tokens), limit 1.30"
    )
    assert result.limit == pytest.approx(1.3)


def test_a_failure_in_both_directions_says_which_is_which() -> None:
    shorter = within(0.1, 0.05, 0.15, n=60)
    assert judged(within(2, 1.9, 2.1), code=shorter).message == (
        "answers are longer: lengthRatio 2.00 [1.90, 2.10] over 200 prompts, limit 1.30; "
        "answers are shorter: lengthRatio/code 0.10 [0.05, 0.15] over 60 prompts, limit 0.20"
    )
    longer = within(3, 2.9, 3.1, n=60)
    assert judged(within(2, 1.9, 2.1), code=longer).message == (
        "answers are longer: lengthRatio 2.00 [1.90, 2.10] over 200 prompts, limit 1.30; "
        "lengthRatio/code 3.00 [2.90, 3.10] over 60 prompts, limit 1.30"
    )


def test_what_is_undecided_says_what_would_settle_it() -> None:
    # The upper end has to come from 0.2 above the estimate down to 0.1: four times the prompts.
    assert "about 800 held-out prompts" in judged(within(1.2, 1.0, 1.4)).message
    # Beyond the limit, the lower end has to clear 1: from 0.6 below to 0.4.
    assert "about 450 held-out prompts" in judged(within(1.4, 0.8, 2.0)).message
    assert "while it stays at the limit" in judged(within(1.3, 0.8, 1.8)).message
    # From 0.04 below the estimate to 0.02.
    shorter = judged(within(0.22, 0.18, 0.26))
    assert "spans the limit 0.20; about 800 held-out prompts" in shorter.message
    assert shorter.limit == pytest.approx(0.2)


def test_one_category_cannot_grow_behind_the_others() -> None:
    """Built to slip through: shorter answers elsewhere make up for long ones in code."""
    result = judged(within(1.0, 0.95, 1.05), code=within(2.0, 1.7, 2.3, n=60))
    assert (result.verdict, result.reason) == (Verdict.FAILED, GateReason.LENGTH_DRIFT)
    assert "lengthRatio/code 2.00" in result.message


def test_a_little_every_week_adds_up() -> None:
    """Built to slip through: 20 % longer each time."""
    limits = LengthDriftGate(max_increase_percent=30, max_increase_from_initial_percent=60)
    drift = {LENGTH_RATIO_FROM_INITIAL: within(1.73, 1.6, 1.86)}
    result = judged(within(1.2, 1.15, 1.25), limits=limits, more=drift)
    assert (result.verdict, result.reason) == (Verdict.FAILED, GateReason.LENGTH_DRIFT)
    assert "lengthRatioFromInitial 1.73" in result.message
    assert result.limit == pytest.approx(1.6)
    assert judged(within(1.2, 1.15, 1.25), limits=limits).verdict == Verdict.ERROR


def test_length_that_the_token_limit_hides_does_not_pass() -> None:
    """Built to slip through: both models run into a low maxNewTokens, and so are equally long."""
    ratio = length_ratio([64] * 100, [64] * 100, 0.95, seed=0)
    assert judged(ratio, share=100.0).verdict == Verdict.INCONCLUSIVE


def test_a_handful_of_prompts_does_not_pass() -> None:
    ratio = length_ratio([8, 9, 8], [8, 9, 8], 0.95, seed=0)
    result = judged(ratio)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, GateReason.LENGTH_UNDECIDED)
    assert "too few prompts" in result.message


@pytest.mark.parametrize("missing", [LENGTH_RATIO, TRUNCATED_SHARE, TRUNCATED_CHANGE])
@pytest.mark.parametrize("how", [None, MISSING, NOTHING])
def test_what_was_not_measured_is_an_error(missing: str, how: Measurement | None) -> None:
    overall = {LENGTH_RATIO: within(1, 0.9, 1.1), TRUNCATED_SHARE: at(0), TRUNCATED_CHANGE: at(0)}
    del overall[missing]
    if how is not None:
        overall[missing] = how
    result = judge(LIMITS, overall, {})
    assert result.verdict == Verdict.ERROR
    assert result.reason == (GateReason.TOO_LITTLE_WORK if how is NOTHING else GateReason.MEASUREMENT_MISSING)
    assert missing in result.message


def test_a_category_without_estimate_is_an_error() -> None:
    assert judged(within(1, 0.9, 1.1), code=MISSING).verdict == Verdict.ERROR


@settings(deadline=None, derandomize=True)
@given(
    st.floats(1, 3),
    st.floats(0, 0.5),
    st.floats(0, 0.5),
    st.floats(0, 2),
    st.floats(0, 100),
    st.floats(-5, 5),
    st.floats(0, 10),
)
def test_longer_answers_are_never_judged_better(
    estimate: float,
    below: float,
    above: float,
    more: float,
    share: float,
    change: float,
    more_cut_off: float,
) -> None:
    def verdict(grown: float, cut_off: float) -> Verdict:
        ratio = within(estimate + grown, estimate + grown - below, estimate + grown + above)
        return judged(ratio, share=min(100, share + cut_off), change=change + cut_off).verdict

    order = [Verdict.PASSED, Verdict.INCONCLUSIVE, Verdict.FAILED]
    assert order.index(verdict(more, more_cut_off)) >= order.index(verdict(0, 0))

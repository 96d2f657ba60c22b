"""The gate winRate: cases by hand, and what must never slip through."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_api.cycle import WinRateGate
from alignment_api.gates import GateReason, GateResult, Verdict
from alignment_api.measurements import (
    GOLD_POOLED,
    NEW_PHRASE,
    WIN_RATE,
    WIN_RATE_EVIDENCE,
    WIN_RATE_EVIDENCE_NEEDED,
    WIN_RATE_NOT_LONGER,
    Measurement,
)
from alignment_operator.gates.win_rate import judge
from alignment_worker.statistics.betting import head_to_head
from tests.gates.measured import MISSING, NOTHING, at, within

WON = within(65, 56, 74, n=120)
LOST = within(35, 26, 44, n=120)
OPEN = within(55, 46, 64, n=120)
SURE = {"independent": True, "reads_answers": False}


def judged(
    rate: Measurement,
    fair: Measurement,
    *,
    independent: bool = True,
    gold: Measurement | None = None,
    min_percent: float = 50,
    least: int = 100,
    phrase: Measurement | None = None,
) -> GateResult:
    evaluated = {GOLD_POOLED: gold} if gold else {}
    compared = {WIN_RATE: rate, WIN_RATE_NOT_LONGER: fair} | ({NEW_PHRASE: phrase} if phrase else {})
    return judge(
        WinRateGate(min_percent=min_percent),
        compared,
        evaluated,
        least,
        independent=independent,
        reads_answers=phrase is not None,
    )


@pytest.mark.parametrize(
    ("rate", "fair", "verdict", "reason"),
    [
        (WON, WON, Verdict.PASSED, None),
        (WON, OPEN, Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
        (OPEN, WON, Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
        (OPEN, OPEN, Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
        (LOST, LOST, Verdict.FAILED, GateReason.NOT_PREFERRED),
        (LOST, WON, Verdict.FAILED, GateReason.NOT_PREFERRED),
        (WON, LOST, Verdict.FAILED, GateReason.NOT_PREFERRED),
        (WON, NOTHING, Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
        (WON, within(90, 40, 100, n=5), Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
        (within(65, 50, 80, n=120), WON, Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
        (within(65, 50.05, 80, n=120), WON, Verdict.PASSED, None),
        (within(35, 20, 50, n=120), WON, Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
        (WON, within(35, 20, 50, n=120), Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
        (within(35, 20, 49.9, n=120), WON, Verdict.FAILED, GateReason.NOT_PREFERRED),
        (within(65, None, None, n=120), WON, Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
        (within(30, 79.2, 84, n=120), WON, Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
        (WON, within(70, 16, 20.8, n=120), Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED),
    ],
)
def test_verdicts(rate: Measurement, fair: Measurement, verdict: Verdict, reason: GateReason | None) -> None:
    result = judged(rate, fair)
    assert (result.verdict, result.reason) == (verdict, reason)
    assert result.limit == 50


def test_the_least_number_of_comparisons_is_enough() -> None:
    assert judged(WON, WON, least=120).verdict == Verdict.PASSED
    assert judged(WON, WON, least=121).verdict == Verdict.ERROR


def test_scores_that_come_in_no_random_order_decide_nothing() -> None:
    """All wins first, as no drawn order would have them: every rate is ruled out, so none is."""
    few = head_to_head([1.0] * 30 + [0.0] * 70, [True] * 100, 50, 100, 1000, 0.95)
    assert judged(few.overall, few.not_longer).verdict == Verdict.INCONCLUSIVE
    many = head_to_head([1.0] * 30 + [0.0] * 400, [True] * 430, 50, 430, 1000, 0.95)
    assert (many.overall.low, many.overall.high) == (0, 100)
    assert judged(many.overall, many.not_longer).verdict == Verdict.INCONCLUSIVE


def test_a_limit_below_half_is_not_called_a_preference() -> None:
    rate = within(50.5, 46.9, 54.2, n=300)
    result = judged(rate, rate, min_percent=45)
    assert result.verdict == Verdict.PASSED
    assert result.message.startswith("the candidate's win rate is above the limit: 50.5 %")


def test_a_higher_limit_must_be_cleared() -> None:
    assert judged(WON, WON, min_percent=55).verdict == Verdict.PASSED
    assert judged(WON, WON, min_percent=60).verdict == Verdict.INCONCLUSIVE
    assert judged(WON, WON, min_percent=80).verdict == Verdict.FAILED


@pytest.mark.parametrize(
    ("gold", "verdict"),
    [
        (within(4, 0.5, 7.5), Verdict.PASSED),
        (within(4, 0.0, 8.0), Verdict.INCONCLUSIVE),
        (within(-4, -8, 0.0), Verdict.INCONCLUSIVE),
        (within(4, None, None), Verdict.INCONCLUSIVE),
    ],
)
def test_the_training_judges_own_preference_needs_a_gold_gain(gold: Measurement, verdict: Verdict) -> None:
    result = judged(WON, WON, independent=False, gold=gold)
    assert result.verdict == verdict
    if verdict == Verdict.INCONCLUSIVE:
        assert result.reason == GateReason.JUDGE_NOT_INDEPENDENT
        assert "evaluation.comparison.judge" in result.message
    assert GOLD_POOLED in result.measurements
    assert GOLD_POOLED not in judged(WON, WON, gold=gold).measurements
    assert judged(LOST, LOST, independent=False, gold=gold).verdict == Verdict.FAILED
    assert judged(OPEN, OPEN, independent=False, gold=gold).reason == GateReason.WIN_RATE_UNDECIDED


def test_messages_carry_the_numbers() -> None:
    result = judged(within(76.2, 62.0, 88.5, n=110), within(71.0, 55.5, 85.0, n=80))
    assert result.message == (
        "the candidate is preferred: 76.2 % [62.0, 88.5] of 110 comparisons; where its answer is not over a "
        "fifth longer 71.0 % [55.5, 85.0] of 80 comparisons, limit 50.0 %"
    )
    # The lower end is 9 below the estimate, and may be 5 below: 120·(9/5)².
    assert "about 389 comparisons would settle it" in judged(OPEN, WON).message
    assert "about 389 such comparisons" in judged(WON, OPEN).message


def test_a_win_by_length_alone_does_not_slip_through() -> None:
    """Built to slip through: preferred wherever it is longer, which is nearly everywhere."""
    random = np.random.default_rng(0)
    longer = random.random(400) < 0.8
    scores = np.where(longer, 1.0, (random.random(400) < 0.3).astype(float))
    result = head_to_head(scores.tolist(), (~longer).tolist(), 50, 100, 1000, 0.95)
    assert result.overall.low is not None
    assert result.overall.low > 50
    assert judged(result.overall, result.not_longer).verdict == Verdict.FAILED


def test_a_win_on_longer_answers_only_does_not_slip_through() -> None:
    """Built to slip through: there is no prompt on which the candidate is not longer."""
    result = head_to_head([1.0] * 300, [False] * 300, 50, 100, 1000, 0.95)
    assert judged(result.overall, result.not_longer).verdict == Verdict.INCONCLUSIVE


def test_a_few_lucky_comparisons_do_not_slip_through() -> None:
    """Built to slip through: stopped by hand after a streak, before minComparisons."""
    result = head_to_head([1.0] * 30, [True] * 30, 50, 10, 30, 0.95)
    verdict = judged(result.overall, result.not_longer, least=100)
    assert (verdict.verdict, verdict.reason) == (Verdict.ERROR, GateReason.TOO_LITTLE_WORK)
    assert "minComparisons (100)" in verdict.message


@pytest.mark.parametrize("how", [None, MISSING, NOTHING, within(55, 60, 50)])
def test_what_was_not_measured_is_an_error(how: Measurement | None) -> None:
    compared = {WIN_RATE_NOT_LONGER: WON} | ({WIN_RATE: how} if how else {})
    gold = {GOLD_POOLED: how} if how else {}
    both = {WIN_RATE: WON, WIN_RATE_NOT_LONGER: WON}
    phrase = {NEW_PHRASE: how} if how else {}

    def verdict(found: Mapping[str, Measurement], **judges: bool) -> Verdict:
        return judge(WinRateGate(), found, gold, 100, **{**SURE, **judges}).verdict

    assert verdict(both) == Verdict.PASSED
    assert verdict(compared) == Verdict.ERROR
    assert verdict({WIN_RATE: WON}) == Verdict.ERROR
    assert verdict(both, independent=False) == Verdict.ERROR
    assert verdict(both | phrase, reads_answers=True) == Verdict.ERROR
    assert verdict(both | {NEW_PHRASE: within(0, -1, 1)}, reads_answers=True) == Verdict.PASSED


@settings(deadline=None, derandomize=True)
@given(
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 30),
    st.floats(0, 50),
    st.booleans(),
    st.floats(-10, 10),
)
def test_a_worse_candidate_is_never_judged_better(
    rate: float, fair: float, reach: float, less: float, independent: bool, gain: float
) -> None:
    def verdict(shift: float) -> Verdict:
        return judged(
            within(rate - shift, rate - shift - reach, rate - shift + reach),
            within(fair - shift, fair - shift - reach, fair - shift + reach),
            independent=independent,
            gold=within(gain - shift, gain - shift - 3, gain - shift + 3),
        ).verdict

    order = [Verdict.PASSED, Verdict.INCONCLUSIVE, Verdict.FAILED]
    assert order.index(verdict(less)) >= order.index(verdict(0))


def among_all(evidence: float | None, needed: float = 6.0, rate: Measurement = WON) -> GateResult:
    compared = {WIN_RATE: rate, WIN_RATE_NOT_LONGER: rate}
    if evidence is not None:
        compared |= {WIN_RATE_EVIDENCE: at(evidence), WIN_RATE_EVIDENCE_NEEDED: at(needed)}
    limits = WinRateGate(false_discovery_percent=5)
    return judge(limits, compared, {}, 5, **SURE)


def test_among_all_candidates_a_win_takes_the_evidence_too() -> None:
    assert among_all(6.0).verdict == Verdict.PASSED
    assert among_all(6.0).message.endswith("; e-value 403, 403 needed after the tests before it")
    short = among_all(5.9)
    assert (short.verdict, short.reason) == (Verdict.INCONCLUSIVE, GateReason.WIN_RATE_UNDECIDED)
    assert "e-value 365, 403 needed" in short.message
    assert among_all(9.0, rate=within(40, 30, 48)).verdict == Verdict.FAILED
    assert among_all(9.0, rate=within(52, 45, 60)).verdict == Verdict.INCONCLUSIVE


def test_among_all_candidates_a_win_without_its_evidence_is_an_error() -> None:
    missing = among_all(None)
    assert (missing.verdict, missing.reason) == (Verdict.ERROR, GateReason.MEASUREMENT_MISSING)


@pytest.mark.parametrize(
    ("phrase", "gold", "passes"),
    [
        (within(60, 52, 68), within(0, -3, 3), False),
        (within(60, 52, 68), None, False),
        (within(60, 52, 68), within(5, 1, 9), False),
        (within(50, 42, 58), within(5, 1, 9), True),
        (within(50, 42, 58), within(0, -3, 3), False),
        (within(20, 14, 26), within(0, -3, 3), True),
        (within(30, 24, 36), within(0, -3, 3), True),
        (within(31, 25, 37), within(0, -3, 3), True),
        (within(31, 25.1, 37), within(0, -3, 3), False),
        (within(57, 50, 64), within(5, 1, 9), True),
        (within(57, 50.1, 64), within(5, 1, 9), False),
    ],
)
def test_a_phrase_that_crept_into_the_answers_takes_a_gain_that_no_judge_sees(
    phrase: Measurement, gold: Measurement | None, passes: bool
) -> None:
    result = judged(WON, WON, gold=gold, phrase=phrase)
    assert (result.verdict is Verdict.PASSED) is passes
    if not passes:
        assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, GateReason.JUDGE_MAY_BE_SWAYED)
        assert "points [" in result.message


def test_a_phrase_saves_no_candidate_that_lost() -> None:
    lost = judged(LOST, LOST, gold=within(0, -3, 3), phrase=within(60, 52, 68))
    assert lost.reason == GateReason.NOT_PREFERRED

"""The gate collapse: two keys, and neither alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_api.cycle import CollapseGate
from alignment_api.gates import GateReason, GateResult, Verdict
from alignment_api.measurements import (
    CANDIDATE_ENTROPY,
    DISTINCT2_DROP,
    DISTINCT2_DROP_FROM_INITIAL,
    IDENTICAL_CHANGE,
    INCUMBENT_ENTROPY,
    PROMPT_DEPENDENCE_CHANGE,
    PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL,
    Measurement,
)
from alignment_operator.gates.collapse import judge
from alignment_worker.statistics.diversity import distinct2_drop, identical_change
from alignment_worker.statistics.mean_change import mean_change
from tests.gates.measured import MISSING, NOTHING, at, within

HEALTHY = {
    DISTINCT2_DROP: within(2, -4, 8),
    IDENTICAL_CHANGE: within(0, -2, 2),
    PROMPT_DEPENDENCE_CHANGE: within(1.0, 0.5, 1.5),
}


def judged(changed: dict[str, Measurement], limits: CollapseGate | None = None) -> GateResult:
    return judge(limits or CollapseGate(), HEALTHY | changed)


LESS_DIVERSE = within(45, 38, 52)
PERHAPS_LESS_DIVERSE = within(45, -3, 93)
LESS_DEPENDENT = within(-3.0, -4.0, -2.0)
PERHAPS_LESS_DEPENDENT = within(-1.0, -2.5, 0.5)


@pytest.mark.parametrize(
    ("distinct", "dependence", "verdict"),
    [
        (within(2, -4, 8), within(1.0, 0.5, 1.5), Verdict.PASSED),
        (LESS_DIVERSE, LESS_DEPENDENT, Verdict.FAILED),
        (LESS_DIVERSE, within(1.0, 0.5, 1.5), Verdict.PASSED),
        (within(2, -4, 8), LESS_DEPENDENT, Verdict.PASSED),
        (within(30, 25, 35), LESS_DEPENDENT, Verdict.PASSED),  # the limit itself is within
        (within(30.1, 25, 35), LESS_DEPENDENT, Verdict.FAILED),
        (PERHAPS_LESS_DIVERSE, LESS_DEPENDENT, Verdict.INCONCLUSIVE),
        (LESS_DIVERSE, PERHAPS_LESS_DEPENDENT, Verdict.INCONCLUSIVE),
        (LESS_DIVERSE, within(-1, None, None), Verdict.INCONCLUSIVE),
        (LESS_DIVERSE, within(0.0, -0.5, 0.5), Verdict.PASSED),
    ],
)
def test_both_keys_must_turn(distinct: Measurement, dependence: Measurement, verdict: Verdict) -> None:
    result = judged({DISTINCT2_DROP: distinct, PROMPT_DEPENDENCE_CHANGE: dependence})
    expected = {Verdict.FAILED: GateReason.COLLAPSE, Verdict.INCONCLUSIVE: GateReason.COLLAPSE_UNDECIDED}
    assert (result.verdict, result.reason) == (verdict, expected.get(verdict))
    assert result.limit == 30


def test_a_failure_names_both_keys_with_their_intervals() -> None:
    result = judged({DISTINCT2_DROP: LESS_DIVERSE, PROMPT_DEPENDENCE_CHANGE: LESS_DEPENDENT})
    assert "distinct-2 −45.0 % [−52.0, −38.0]" in result.message
    assert "(limit 30.0)" in result.message
    assert "prompt dependence −3.00 nats an answer [−4.00, −2.00]" in result.message


def test_diversity_alone_warns() -> None:
    result = judged({DISTINCT2_DROP: LESS_DIVERSE})
    assert result.verdict == Verdict.PASSED
    assert len(result.warnings) == 1
    assert "becoming right and short" in result.warnings[0]


def test_entropy_alone_warns() -> None:
    """A real 270M model on a healthy run: 1.9 → 0.5 nats a token."""
    result = judged({INCUMBENT_ENTROPY: at(1.9), CANDIDATE_ENTROPY: at(0.5)})
    assert result.verdict == Verdict.PASSED
    assert result.warnings == ["token entropy fell by 74 %: 1.90 → 0.50 nats a token"]
    assert not judged({INCUMBENT_ENTROPY: at(1.9), CANDIDATE_ENTROPY: at(1.8)}).warnings


def test_canned_and_short_answers_do_not_slip_through() -> None:
    """Built to slip through: half the answers are one refusal of one token, where bigrams cannot see them."""
    random = np.random.default_rng(0)
    incumbent = [random.integers(0, 1000, 8).tolist() for _ in range(100)]
    candidate = [[1]] * 50 + incumbent[50:]
    result = judged(
        {
            DISTINCT2_DROP: distinct2_drop(candidate, incumbent, 0.95),
            IDENTICAL_CHANGE: identical_change(candidate, incumbent, 0.95),
            PROMPT_DEPENDENCE_CHANGE: mean_change(
                [0.0] * 50 + [20.0] * 50, random.normal(20, 3, 100).tolist(), 0.95, seed=0
            ),
        }
    )
    assert (result.verdict, result.reason) == (Verdict.FAILED, GateReason.COLLAPSE)
    assert "answers that equal another prompt's +50.0 points" in result.message


def test_long_and_varied_but_canned_answers_do_not_slip_through() -> None:
    """Built to slip through: one long answer full of different words, to every prompt."""
    random = np.random.default_rng(1)
    incumbent = [random.integers(0, 500, 10).tolist() for _ in range(80)]
    candidate = [list(range(1000, 1200)) for _ in range(80)]
    result = judged(
        {
            DISTINCT2_DROP: distinct2_drop(candidate, incumbent, 0.95),
            IDENTICAL_CHANGE: identical_change(candidate, incumbent, 0.95),
            PROMPT_DEPENDENCE_CHANGE: mean_change(
                random.normal(0, 1, 80).tolist(), random.normal(9, 3, 80).tolist(), 0.95, seed=0
            ),
        }
    )
    assert result.verdict == Verdict.FAILED


def test_a_little_every_week_adds_up() -> None:
    limits = CollapseGate(max_distinct_drop_percent=30, max_distinct_drop_from_initial_percent=50)
    since = {
        DISTINCT2_DROP_FROM_INITIAL: within(60, 52, 68),
        PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL: within(-5, -6, -4),
    }
    result = judged(since, limits)
    assert (result.verdict, result.reason, result.limit) == (Verdict.FAILED, GateReason.COLLAPSE, 50)
    assert "from M_0" in result.message
    assert judged({}, limits).verdict == Verdict.ERROR


@pytest.mark.parametrize("missing", list(HEALTHY))
@pytest.mark.parametrize("how", [None, MISSING, NOTHING])
def test_what_was_not_measured_is_an_error(missing: str, how: Measurement | None) -> None:
    overall = {name: value for name, value in HEALTHY.items() if name != missing}
    result = judge(CollapseGate(), overall | ({missing: how} if how else {}))
    assert result.verdict == Verdict.ERROR
    assert missing in result.message


@settings(deadline=None, derandomize=True)
@given(
    st.floats(0, 90),
    st.floats(0, 30),
    st.floats(-5, 5),
    st.floats(0, 3),
    st.floats(0, 40),
    st.floats(0, 5),
)
def test_a_worse_candidate_is_never_judged_better(
    distinct: float, reach: float, dependence: float, spread: float, less: float, lower: float
) -> None:
    def verdict(drop: float, change: float) -> Verdict:
        return judged(
            {
                DISTINCT2_DROP: within(drop, drop - reach, drop + reach),
                PROMPT_DEPENDENCE_CHANGE: within(change, change - spread, change + spread),
            }
        ).verdict

    order = [Verdict.PASSED, Verdict.INCONCLUSIVE, Verdict.FAILED]
    worse = verdict(distinct + less, dependence - lower)
    assert order.index(worse) >= order.index(verdict(distinct, dependence))

"""A year of weekly iterations: what chance promotes, and what drifts so slowly that no single week shows it."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from alignment_api import cycle_status
from alignment_api.cycle import AlignmentCycleSpec, CollapseGate, GoldSetGate, LengthDriftGate
from alignment_api.gates import Gate, GateResult, Verdict
from alignment_api.measurements import (
    DISTINCT2_DROP,
    DISTINCT2_DROP_FROM_INITIAL,
    GOLD,
    GOLD_FROM_INITIAL,
    IDENTICAL_CHANGE,
    LENGTH_RATIO,
    LENGTH_RATIO_FROM_INITIAL,
    PROMPT_DEPENDENCE_CHANGE,
    PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL,
    TRUNCATED_CHANGE,
    TRUNCATED_SHARE,
    Measurement,
)
from alignment_operator.gates import collapse, gold_set, length_drift
from alignment_operator.plan import tested
from alignment_worker.statistics.betting import WinRate
from alignment_worker.statistics.diversity import distinct2_drop, identical_change
from alignment_worker.statistics.mean_change import mean_change
from alignment_worker.statistics.paired_accuracy import paired_accuracy
from alignment_worker.statistics.ratios import length_ratio
from tests.gates.measured import at
from tests.operator.plan_world import cycle_spec

WEEKS, CONFIDENCE = 52, 0.95


def comparison(draw: np.random.Generator, level_percent: float | None) -> tuple[bool, WinRate]:
    """Of an equal model, 300 comparisons at most; whether it is promoted as soon as it could be."""
    rate = WinRate(CONFIDENCE)
    for count, score in enumerate(draw.random(300) < 0.5, start=1):
        rate.update(float(score))
        enough = level_percent is None or rate.evidence(0.5) >= -np.log(level_percent / 100)
        if count >= 100 and rate.bounds()[0] > 0.5 and enough:
            return True, rate
    return False, rate


def year(seed: int, spec: AlignmentCycleSpec) -> cycle_status.Tested:
    draw = np.random.default_rng(seed)
    so_far: cycle_status.Tested | None = None
    for _ in range(WEEKS):
        level = tested.level(spec, so_far)
        promoted, _ = comparison(draw, level)
        verdict = Verdict.PASSED if promoted else Verdict.INCONCLUSIVE
        so_far = tested.counted(
            so_far, [GateResult(name=Gate.WIN_RATE, verdict=verdict, message="")], spec, level
        )
    assert so_far is not None
    return so_far


def test_of_a_year_of_equal_candidates_hardly_any_year_promotes_one() -> None:
    controlled = cycle_spec(gates={"winRate": {"falseDiscoveryPercent": 5}})
    years = [year(seed, controlled) for seed in range(10)]
    assert sum(found.passed > 0 for found in years) <= 1
    assert all(found.candidates == WEEKS for found in years)
    assert years[0].alpha_spent_percent < 5


def weeks_until_refused(week: Callable[[int], GateResult]) -> int:
    """The first week whose candidate does not pass; those before it were promoted."""
    for number in range(1, WEEKS + 1):
        if week(number).verdict is not Verdict.PASSED:
            return number
    return WEEKS + 1


def gold(seed: int, limits: GoldSetGate) -> int:
    """A point is lost each week (9 items), and three in a hundred items change besides, half of them for the better."""
    draw = random.Random(seed)
    initial = [draw.random() < 0.8 for _ in range(900)]
    now = list(initial)

    def change(before: list[bool]) -> Measurement:
        return paired_accuracy([[flag] for flag in before], [[flag] for flag in now], CONFIDENCE, seed)

    def week(_: int) -> GateResult:
        nonlocal now
        before = now
        right, wrong = (
            [index for index, flag in enumerate(before) if flag is which] for which in (True, False)
        )
        now = list(before)
        for index in (*draw.sample(right, 9 + 14), *draw.sample(wrong, 14)):
            now[index] = not now[index]
        found = {GOLD: change(before), GOLD_FROM_INITIAL: change(initial)}
        return gold_set.judge(limits, {"facts": found}, CONFIDENCE)

    return weeks_until_refused(week)


def test_a_point_of_gold_a_week_is_stopped_by_the_limit_from_the_start() -> None:
    alone = [gold(seed, GoldSetGate()) for seed in range(10)]
    limited = [gold(seed, GoldSetGate(max_drop_from_initial_points=4)) for seed in range(10)]
    assert np.median(alone) > 8
    assert max(limited) <= 10
    assert np.median(limited) < np.median(alone)


def lengths(limits: LengthDriftGate) -> int:
    """Two percent a week."""
    draw = np.random.default_rng(4)
    initial = draw.integers(20, 200, 100)
    grown = initial.astype(float)

    def ratio(before: np.ndarray) -> Measurement:
        return length_ratio(np.rint(grown).astype(int).tolist(), before.tolist(), CONFIDENCE, 0)

    def week(_: int) -> GateResult:
        nonlocal grown
        before = np.rint(grown).astype(int)
        grown = grown * draw.normal(1.02, 0.05, len(grown))
        found = {
            LENGTH_RATIO: ratio(before),
            LENGTH_RATIO_FROM_INITIAL: ratio(initial),
            TRUNCATED_SHARE: at(0),
            TRUNCATED_CHANGE: at(0),
        }
        return length_drift.judge(limits, found, {})

    return weeks_until_refused(week)


def test_two_percent_of_length_a_week_are_stopped_by_the_limit_from_the_start() -> None:
    assert lengths(LengthDriftGate()) == WEEKS + 1
    assert 20 < lengths(LengthDriftGate(max_increase_from_initial_percent=60)) < 28


def answers(canned: float, draw: random.Random) -> list[list[int]]:
    """Of 200 prompts so many in a hundred get one and the same answer."""
    return [
        [7, 8, 9, 10, 11, 12]
        if draw.random() < canned / 100
        else [draw.randrange(100, 4000) for _ in range(6)]
        for _ in range(200)
    ]


def diversity(limits: CollapseGate) -> int:
    draw = random.Random(2)
    initial = answers(0, draw)
    now = initial

    def dependence(canned: float) -> list[float]:
        return [draw.gauss(10 - canned / 10, 1) for _ in range(200)]

    first = dependence(0)

    def week(number: int) -> GateResult:
        nonlocal now
        before, canned = now, 2.0 * number
        now = answers(canned, draw)
        own, own_before = dependence(canned), dependence(canned - 2)
        found = {
            DISTINCT2_DROP: distinct2_drop(now, before, CONFIDENCE),
            DISTINCT2_DROP_FROM_INITIAL: distinct2_drop(now, initial, CONFIDENCE),
            IDENTICAL_CHANGE: identical_change(now, before, CONFIDENCE),
            PROMPT_DEPENDENCE_CHANGE: mean_change(own, own_before, CONFIDENCE, number),
            PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL: mean_change(own, first, CONFIDENCE, number),
        }
        return collapse.judge(limits, found)

    return weeks_until_refused(week)


def test_two_canned_answers_more_a_week_are_stopped_by_the_limit_from_the_start() -> None:
    alone = diversity(CollapseGate())
    limited = diversity(CollapseGate(max_distinct_drop_from_initial_percent=50))
    assert limited < alone
    assert limited <= 30


@pytest.mark.parametrize("percent", [None, 5.0])
def test_the_level_of_the_first_week_is_no_larger_than_that_of_a_single_test(percent: float | None) -> None:
    spec = cycle_spec(gates={"winRate": {} if percent is None else {"falseDiscoveryPercent": percent}})
    assert tested.level(spec, None) == (None if percent is None else 2.5)

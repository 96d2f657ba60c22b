"""The betting confidence sequence against its authors' own program, and against chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_worker.statistics.betting import HeadToHead, WinRate, head_to_head
from alignment_worker.statistics.comparison_order import comparison_order

SCORES = [0.0, 0.25, 0.5, 0.75, 1.0]


def raced(scores: list[float], min_percent: float, least: int, most: int, confidence: float) -> HeadToHead:
    """Of answers that are never longer, so that both win rates are one."""
    return head_to_head(scores, [True] * len(scores), min_percent, least, most, confidence)


@pytest.mark.parametrize(
    ("pattern", "bounds_after"),
    [
        # `hedged_cs(x, alpha=0.05, breaks=10000)` of the package confseq by Waudby-Smith and Ramdas, commit
        # 70b1ef30aef08ad459815ea87fc25248f8b15178, x being the pattern repeated.
        ([1, 0], {10: (0.14, 0.8931), 50: (0.3042, 0.7128), 100: (0.3493, 0.6622), 400: (0.411, 0.5948)}),
        ([0.5], {10: (0.2642, 0.7358), 50: (0.4336, 0.5664), 100: (0.465, 0.535), 400: (0.4909, 0.5091)}),
        ([1], {10: (0.5284, 1.0), 50: (0.8672, 1.0), 100: (0.93, 1.0), 400: (0.9818, 1.0)}),
        (
            [1, 0.5, 0, 0.75, 1, 1, 0.25, 0.5],
            {10: (0.3021, 0.9207), 50: (0.4805, 0.7715), 100: (0.5193, 0.7313), 400: (0.5667, 0.687)},
        ),
        (
            [0, 0, 0.25, 0, 0.5, 1],
            {10: (0.0, 0.6116), 50: (0.1413, 0.4404), 100: (0.1776, 0.3969), 400: (0.224, 0.3509)},
        ),
    ],
)
def test_reproduces_the_authors_program(
    pattern: list[float], bounds_after: dict[int, tuple[float, float]]
) -> None:
    rate = WinRate(0.95)
    for count, score in enumerate((pattern * 400)[:400], start=1):
        rate.update(score)
        if count in bounds_after:
            low, high = bounds_after[count]
            # The grid is 0.0005 apart and rounds outwards.
            assert low - 0.0006 <= rate.bounds()[0] <= low + 0.0001
            assert high - 0.0001 <= rate.bounds()[1] <= high + 0.0006


def test_capital_by_hand() -> None:
    """After wins alone, a rate m is excluded once the product of 1 + min(λ, ½/m)·(1 − m) reaches 2/α."""
    rate, confidence = WinRate(0.95), 0.95
    squares, total = 0.0, 0.0
    grid = np.linspace(0.001, 0.999, 999)
    capital, excluded = np.ones_like(grid), np.zeros_like(grid, dtype=bool)
    for turn in range(1, 21):
        variance = (0.25 + squares) / turn
        bet = np.sqrt(2 * np.log(2 / (1 - confidence)) / (variance * turn * np.log(turn + 1)))
        capital *= 1 + np.minimum(bet, 0.5 / grid) * (1 - grid)
        excluded |= capital >= 2 / (1 - confidence)
        total += 1
        squares += (1 - (0.5 + total) / (turn + 1)) ** 2
        rate.update(1)
    assert rate.bounds()[0] == pytest.approx(grid[excluded].max(), abs=0.0011)
    assert rate.bounds()[1] == 1


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(SCORES), min_size=1, max_size=80))
def test_the_interval_only_ever_narrows_and_mirrors(scores: list[float]) -> None:
    rate, mirrored = WinRate(0.95), WinRate(0.95)
    before = rate.bounds()
    for score in scores:
        rate.update(score)
        mirrored.update(1 - score)
        low, high = rate.bounds()
        assert before[0] <= low < high <= before[1]
        before = (low, high)
    assert mirrored.bounds() == pytest.approx((1 - high, 1 - low), abs=0.0006)


@pytest.mark.parametrize("score", [-0.1, 1.25, float("nan")])
def test_what_is_no_score_is_an_error(score: float) -> None:
    with pytest.raises(ValueError, match="score"):
        WinRate(0.95).update(score)


def test_before_the_first_score_anything_is_possible() -> None:
    rate = WinRate(0.95)
    assert rate.bounds() == (0, 1)
    assert not rate.decided(0.5)
    assert rate.measurement().estimate is None


def test_stops_as_soon_as_it_is_decided_but_not_before_the_least() -> None:
    found = raced([1.0] * 500, 50, 100, 1000, 0.95)
    measurement, used = found.overall, found.used
    assert used == measurement.n == 100
    found = raced([1.0] * 500, 50, 1, 1000, 0.95)
    measurement, used = found.overall, found.used
    assert used < 15
    assert measurement.low is not None
    assert measurement.low > 50


def test_ends_with_the_last_score_or_the_most_comparisons() -> None:
    assert raced([1.0, 0.0] * 500, 50, 10, 300, 0.95).used == 300
    assert raced([1.0, 0.0] * 50, 50, 10, 300, 0.95).used == 100


def _promoted(random: np.random.Generator, shares: list[float], runs: int) -> int:
    promoted = 0
    for _ in range(runs):
        scores = random.choice(SCORES, 600, p=shares).tolist()
        low = raced(scores, 50, 50, 600, 0.95).overall.low
        promoted += low is not None and low > 50
    return promoted


@pytest.mark.parametrize("shares", [[0.5, 0, 0, 0, 0.5], [0.15, 0.05, 0.6, 0.05, 0.15], [0.2] * 5])
def test_an_equal_model_wins_in_at_most_one_of_twenty(shares: list[float]) -> None:
    """Though one looks after every comparison and stops when it suits."""
    assert _promoted(np.random.default_rng(7), shares, runs=100) <= 0.05 * 100


def test_an_equal_model_does_not_win_by_categories_that_differ() -> None:
    """Better in one category, worse in the others, in the order that is proportional by category."""
    random = np.random.default_rng(3)
    categories = ["code"] * 240 + ["facts"] * 180 + ["reasoning"] * 180
    chance = {"code": 0.8, "facts": 0.3, "reasoning": 0.3}
    promoted = 0
    for seed in range(100):
        order = comparison_order(categories, seed)
        scores = [float(random.random() < chance[categories[index]]) for index in order]
        low = raced(scores, 50, 50, 600, 0.95).overall.low
        promoted += low is not None and low > 50
    assert promoted <= 0.05 * 100


def test_a_better_model_is_found_out() -> None:
    random = np.random.default_rng(5)
    runs = [raced((random.random(1000) < 0.6).astype(float).tolist(), 50, 100, 1000, 0.95) for _ in range(60)]
    won = [run.used for run in runs if run.overall.low is not None and run.overall.low > 50]
    assert len(won) >= 0.95 * 60
    assert np.median(won) < 500


def test_goes_on_until_the_prompts_where_it_is_not_longer_are_decided_too() -> None:
    scores, not_longer = [1.0] * 400, ([False] * 9 + [True]) * 40
    alone = raced(scores, 50, 10, 1000, 0.95).used
    result = head_to_head(scores, not_longer, 50, 10, 1000, 0.95)
    assert alone < result.used < 150
    assert result.not_longer.n == result.used // 10
    assert result.not_longer.low is not None
    assert result.not_longer.low > 50


def test_a_win_by_length_alone_is_settled_as_none() -> None:
    scores, not_longer = [1.0, 1.0, 1.0, 0.0] * 100, [False, False, False, True] * 100
    result = head_to_head(scores, not_longer, 50, 10, 1000, 0.95)
    assert result.used < 100
    assert result.not_longer.high is not None
    assert result.not_longer.high < 50


def test_without_a_prompt_where_it_is_not_longer_there_is_no_rate_of_them() -> None:
    result = head_to_head([1.0] * 200, [False] * 200, 50, 10, 150, 0.95)
    assert result.used == 150
    assert result.not_longer.n == 0
    assert result.not_longer.estimate is None


def test_lengths_of_other_comparisons_are_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        head_to_head([1.0], [], 50, 1, 1, 0.95)


def test_evidence_is_the_capital_of_who_bets_on_more() -> None:
    """By hand, at a rate of the grid."""
    scores, rate, m = [1.0, 0.5, 0.0, 1.0, 1.0, 0.75], WinRate(0.95), 0.5
    capital, total, squares = 1.0, 0.0, 0.0
    for turn, score in enumerate(scores, start=1):
        variance = (0.25 + squares) / turn
        bet = np.sqrt(2 * np.log(2 / 0.05) / (variance * turn * np.log(turn + 1)))
        capital *= 1 + min(bet, 0.5 / m) * (score - m)
        rate.update(score)
        total += score
        squares += (score - (0.5 + total) / (turn + 1)) ** 2
    assert rate.evidence(m) == pytest.approx(np.log(capital))
    assert rate.evidence(0.5001) <= rate.evidence(0.5)


@pytest.mark.parametrize("shares", [[0.5, 0, 0, 0, 0.5], [0.2] * 5])
def test_an_equal_model_seldom_has_a_large_e_value_at_any_time(shares: list[float]) -> None:
    random, runs, ever = np.random.default_rng(11), 300, 0
    for _ in range(runs):
        rate, most = WinRate(0.95), 0.0
        for score in random.choice(SCORES, 300, p=shares):
            rate.update(float(score))
            most = max(most, rate.evidence(0.5))
        ever += most >= np.log(20)
    assert ever <= 0.05 * runs


def test_goes_on_until_the_evidence_is_there() -> None:
    scores = [1.0, 1.0, 1.0, 0.0] * 200
    alone = head_to_head(scores, [True] * 800, 50, 10, 800, 0.95)
    strict = head_to_head(scores, [True] * 800, 50, 10, 800, 0.95, needed=12.0)
    assert alone.evidence < 12 <= strict.evidence < 13
    assert alone.used < strict.used < 400
    lost = head_to_head([1 - score for score in scores], [True] * 800, 50, 10, 800, 0.95, needed=12.0)
    assert lost.used == alone.used

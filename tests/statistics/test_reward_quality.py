"""What is said of a reward model's scores, against its definitions and published tables."""

from __future__ import annotations

from math import comb, exp

import numpy as np
import pytest

from alignment_worker.statistics import reward_quality


def test_accuracy_has_the_exact_interval_of_clopper_and_pearson() -> None:
    """Its ends make what was seen, or something further out, as unlikely as 2.5 %."""
    found = reward_quality.accuracy([1.0] * 35 + [-1.0] * 15, 0.95)
    assert (found.estimate, found.n) == (70, 50)
    assert found.low is not None
    assert found.high is not None
    assert at_least(35, 50, found.low / 100) == pytest.approx(0.025, abs=1e-9)
    assert 1 - at_least(36, 50, found.high / 100) == pytest.approx(0.025, abs=1e-9)


def at_least(right: int, pairs: int, rate: float) -> float:
    return sum(comb(pairs, k) * rate**k * (1 - rate) ** (pairs - k) for k in range(right, pairs + 1))


def test_equal_scores_do_not_tell_the_answers_apart() -> None:
    assert reward_quality.accuracy([0.0, 1.0], 0.95).estimate == 50


def test_without_pairs_there_is_no_accuracy() -> None:
    found = reward_quality.accuracy([], 0.95)
    assert (found.estimate, found.low, found.n) == (None, None, 0)


def test_the_brier_score_is_the_squared_error_of_the_probability() -> None:
    margins = [2.0, -1.0, 0.0]
    expected = np.mean([(1 - 1 / (1 + exp(-margin))) ** 2 for margin in margins])
    assert reward_quality.brier_score(margins, 0.95).estimate == pytest.approx(expected, abs=1e-12)
    assert reward_quality.brier_score([0.0] * 4, 0.95).estimate == 0.25
    assert reward_quality.brier_score([800.0, -800.0], 0.95).estimate == 0.5


def test_overconfidence_is_confidence_less_accuracy() -> None:
    sure = np.log(9)  # a probability of 90 %
    assert reward_quality.overconfidence([sure] * 6 + [-sure] * 4, 0.95).estimate == pytest.approx(30)
    assert reward_quality.overconfidence([sure] * 9 + [-sure], 0.95).estimate == pytest.approx(0)
    assert reward_quality.overconfidence([0.1] * 10, 0.95).estimate == pytest.approx(-47.502, abs=1e-3)


def test_length_correlation_is_that_of_ranks() -> None:
    assert reward_quality.length_correlation([1, 10, 100], [3, 4, 5]).estimate == pytest.approx(1)
    assert reward_quality.length_correlation([1, 2, 3, 4], [10, 9, 8, 7]).estimate == pytest.approx(-1)
    mixed = reward_quality.length_correlation([1, 2, 3, 4], [1, 3, 2, 4])
    assert mixed.n == 4
    assert mixed.estimate == pytest.approx(0.8)  # 1 − 6·Σd²/(n·(n² − 1))


@pytest.mark.parametrize(("scores", "lengths"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [4, 4, 4]), ([], [])])
def test_where_all_are_alike_nothing_correlates(scores: list[float], lengths: list[int]) -> None:
    assert reward_quality.length_correlation(scores, lengths).estimate is None

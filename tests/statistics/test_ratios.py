"""Length ratios and shares against the delta method and published intervals."""

from __future__ import annotations

import numpy as np
import pytest

from alignment_worker.statistics.proportions import percent
from alignment_worker.statistics.ratios import length_ratio, share_change


def test_the_ratio_is_that_of_the_sums_not_the_mean_of_ratios() -> None:
    result = length_ratio([1, 1, 1, 1, 100], [2, 2, 2, 2, 50], 0.95, seed=0)
    assert result.estimate == pytest.approx(104 / 58)
    assert result.n == 5


def test_the_interval_agrees_with_the_delta_method() -> None:
    random = np.random.default_rng(3)
    incumbent = random.poisson(40, 500) + 1
    candidate = random.poisson(1.2 * incumbent) + 1
    ratio = candidate.sum() / incumbent.sum()
    error = (candidate - ratio * incumbent).std(ddof=1) / np.sqrt(500) / incumbent.mean()
    result = length_ratio(candidate.tolist(), incumbent.tolist(), 0.95, seed=0)
    expected = (ratio - 1.96 * error, ratio + 1.96 * error)
    assert (result.low, result.high) == pytest.approx(expected, abs=0.15 * error)


def test_pairing_by_prompt_takes_out_what_prompts_have_in_common() -> None:
    random = np.random.default_rng(4)
    incumbent = random.integers(5, 500, 200)
    result = length_ratio((incumbent + random.integers(0, 3, 200)).tolist(), incumbent.tolist(), 0.95, seed=0)
    assert result.low is not None
    assert result.high is not None
    assert result.high - result.low < 0.01


def test_covers_the_truth() -> None:
    random = np.random.default_rng(9)
    covered = 0
    for _ in range(80):
        pairs = random.lognormal(3, 0.5, (2, 60)).round().astype(int) + 1
        result = length_ratio(pairs[0].tolist(), pairs[1].tolist(), 0.95, seed=0)
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= 1 <= result.high
    assert covered >= 0.88 * 80


@pytest.mark.parametrize(("candidate", "ratio"), [([7] * 20, 1.0), ([21] * 20, 3.0)])
def test_where_every_prompt_says_the_same_the_interval_is_that_point(
    candidate: list[int], ratio: float
) -> None:
    result = length_ratio(candidate, [7] * 20, 0.95, seed=0)
    assert (result.low, result.estimate, result.high) == (ratio, ratio, ratio)


def test_a_handful_of_prompts_has_no_interval() -> None:
    result = length_ratio([5, 5, 5, 5], [5, 5, 5, 5], 0.95, seed=0)
    assert result.estimate == 1
    assert result.low is None
    assert result.high is None


@pytest.mark.parametrize(("candidate", "incumbent"), [([], []), ([3, 4], [0, 0])])
def test_without_a_token_to_compare_with_there_is_no_estimate(
    candidate: list[int], incumbent: list[int]
) -> None:
    assert length_ratio(candidate, incumbent, 0.95, seed=0).estimate is None


def test_lengths_that_cannot_be_paired_are_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        length_ratio([1], [1, 2], 0.95, seed=0)
    with pytest.raises(ValueError, match="negative"):
        length_ratio([-1], [1], 0.95, seed=0)


def test_changes_of_shares_have_tangos_interval() -> None:
    incumbent = [True] * 4 + [False] * 9 + [True] * 3 + [False] * 16
    candidate = [True] * 13 + [False] * 19
    result = share_change(candidate, incumbent, 0.95)
    assert result.estimate == pytest.approx(100 * 6 / 32)
    assert (result.low, result.high) == pytest.approx((-2.7, 39.0), abs=0.06)


def test_shares_of_nothing_have_no_estimate() -> None:
    assert percent(0, 0, 0.95).estimate is None
    assert share_change([], [], 0.95).estimate is None

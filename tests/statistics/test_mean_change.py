"""Means and their changes against Student's t."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from alignment_worker.statistics.mean_change import mean, mean_change


def test_the_mean_has_students_interval() -> None:
    # Five numbers: mean 3, standard deviation 1.5811, t.975 with 4 degrees of freedom 2.7764.
    result = mean([1, 2, 3, 4, 5], 0.95)
    assert (result.low, result.estimate, result.high) == pytest.approx((1.0368, 3.0, 4.9632), abs=1e-3)
    assert result.n == 5


def test_the_change_agrees_with_the_paired_t_interval() -> None:
    random = np.random.default_rng(0)
    before = random.normal(10, 3, 200)
    after = before + random.normal(-0.5, 1, 200)
    expected = stats.ttest_rel(after, before).confidence_interval(0.95)
    result = mean_change(after.tolist(), before.tolist(), 0.95, seed=0)
    assert result.estimate == pytest.approx(float((after - before).mean()))
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high), abs=0.02)


def test_the_interval_of_a_skewed_change_is_bias_corrected_and_accelerated() -> None:
    """Efron (1987), equation 2.3, with the acceleration of the mean: skewness / 6√n."""
    random = np.random.default_rng(2)
    changes = random.exponential(1, 30)
    means = changes[random.integers(0, 30, (40_000, 30))].mean(1)
    bias = stats.norm.ppf((means < changes.mean()).mean())
    acceleration = stats.skew(changes) / (6 * np.sqrt(30))
    reach = bias + stats.norm.ppf([0.025, 0.975])
    ends = np.quantile(means, stats.norm.cdf(bias + reach / (1 - acceleration * reach)))
    plain = np.quantile(means, [0.025, 0.975])
    result = mean_change(changes.tolist(), [0.0] * 30, 0.95, seed=0)
    apart = float(np.abs(ends - plain).min())
    assert (result.low, result.high) == pytest.approx(tuple(ends), abs=apart / 2)


def test_covers_the_truth_of_a_skewed_change() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(80):
        changes = random.exponential(1, 80)
        result = mean_change(changes.tolist(), [0.0] * 80, 0.95, seed=0)
        assert result.low is not None
        assert result.high is not None
        covered += result.low <= 1 <= result.high
    assert covered >= 0.88 * 80


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_leaves_no_estimate(bad: float) -> None:
    assert mean([1.0, bad], 0.95).estimate is None
    assert mean_change([1.0] * 9 + [bad], [0.0] * 10, 0.95, seed=0).estimate is None


def test_nothing_has_no_mean() -> None:
    assert mean([], 0.95).estimate is None
    assert mean_change([], [], 0.95, seed=0).estimate is None


def test_no_change_is_the_point_zero() -> None:
    result = mean_change([1.5] * 30, [1.5] * 30, 0.95, seed=0)
    assert (result.low, result.estimate, result.high) == (0, 0, 0)


def test_a_handful_has_no_interval() -> None:
    assert mean([1.0, 2.0], 0.95).low is None
    assert mean_change([1.0, 2.0], [0.0, 0.0], 0.95, seed=0).low is None


def test_values_that_cannot_be_paired_are_an_error() -> None:
    with pytest.raises(ValueError, match="cannot be paired"):
        mean_change([1.0], [], 0.95, seed=0)

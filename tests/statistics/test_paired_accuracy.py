"""Accuracy changes against enumeration of everything that could have happened."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_worker.statistics.paired_accuracy import paired_accuracy

Outcomes = list[list[bool]]


def outcomes(both: int, gains: int, losses: int, neither: int) -> tuple[Outcomes, Outcomes]:
    before = [True] * both + [False] * gains + [True] * losses + [False] * neither
    after = [True] * both + [True] * gains + [False] * losses + [False] * neither
    return [[value] for value in before], [[value] for value in after]


@pytest.mark.parametrize(
    ("both", "gains", "losses", "neither", "points", "p"),
    [
        # p by hand: the chance of that many losses or more among the discordant items, by coin.
        (50, 0, 5, 45, -5.0, 1 / 32),
        (50, 0, 4, 46, -4.0, 1 / 16),
        (50, 1, 7, 42, -6.0, (8 + 1) / 256),
        (50, 5, 0, 45, 5.0, 1.0),
        (60, 10, 10, 20, 0.0, sum(comb(20, k) for k in range(10, 21)) / 2**20),
        (100, 0, 0, 100, 0.0, 1.0),
        # Agresti, Categorical Data Analysis: approval of a prime minister; McNemar's z is -4.17.
        (794, 86, 150, 570, -4.0, sum(comb(236, k) for k in range(150, 237)) / 2**236),
    ],
)
def test_harm_is_tested_exactly_on_the_discordant_items(
    both: int, gains: int, losses: int, neither: int, points: float, p: float
) -> None:
    result = paired_accuracy(*outcomes(both, gains, losses, neither), confidence=0.95, seed=0)
    assert result.estimate == pytest.approx(points)
    assert result.p == pytest.approx(p)
    assert result.n == both + gains + losses + neither
    assert result.discordant == pytest.approx((gains + losses) / result.n)


def test_the_interval_is_the_score_interval_and_the_lower_bound_is_one_sided() -> None:
    result = paired_accuracy(*outcomes(4, 9, 3, 16), confidence=0.95, seed=0)
    assert (result.low, result.high) == pytest.approx((-2.7, 39.0), abs=0.06)
    two_sided_at_90 = paired_accuracy(*outcomes(4, 9, 3, 16), confidence=0.90, seed=0).low
    assert result.lower_bound == pytest.approx(two_sided_at_90)


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("items", [1, 3, 30, 300])
def test_items_that_did_not_change_do_not_prove_that_nothing_can(items: int, samples: int) -> None:
    answers = [[True] * samples] * items
    result = paired_accuracy(answers, answers, confidence=0.95, seed=0)
    z = 1.644854
    assert result.estimate == 0
    assert result.p == 1
    assert result.lower_bound is not None
    assert result.lower_bound <= -100 * z**2 / (items + z**2) + 1e-4
    assert result.low is not None
    assert result.high is not None
    assert result.low <= result.lower_bound < 0 < result.high


def test_sign_flips_are_enumerated_where_items_are_few() -> None:
    before = [[True, True], [True, False], [True, True], [False, False], [True, True], [True, False]]
    after = [[True, False], [False, False], [False, False], [False, True], [True, True], [False, False]]
    changes = np.mean(after, axis=1) - np.mean(before, axis=1)
    observed = changes.sum()
    sums = [float(np.dot(signs, changes)) for signs in product((-1, 1), repeat=6)]
    expected = np.mean([total <= observed + 1e-12 for total in sums])
    result = paired_accuracy(before, after, confidence=0.95, seed=0)
    assert result.p == pytest.approx(expected)
    assert result.estimate == pytest.approx(100 * changes.mean())
    assert result.discordant == pytest.approx(float(np.mean(changes**2)))


def test_with_many_items_and_samples_the_interval_is_that_of_the_items() -> None:
    random = np.random.default_rng(5)
    before = (random.random((400, 4)) < 0.6).tolist()
    after = (random.random((400, 4)) < 0.5).tolist()
    changes = 100 * (np.mean(after, axis=1) - np.mean(before, axis=1))
    error = changes.std(ddof=1) / 20
    result = paired_accuracy(before, after, confidence=0.95, seed=0)
    expected = (changes.mean() - 1.96 * error, changes.mean() + 1.96 * error)
    assert (result.low, result.high) == pytest.approx(expected, abs=0.25 * error)
    assert result.lower_bound == pytest.approx(changes.mean() - 1.645 * error, abs=0.25 * error)
    assert result.p is not None
    assert result.p < 0.001


def test_samples_of_one_item_are_not_counted_as_items() -> None:
    """An item repeated a hundred times says no more than it does once."""
    result = paired_accuracy([[True] * 100] * 4, [[False] * 100] * 4, confidence=0.95, seed=0)
    assert result.n == 4
    assert result.p == pytest.approx(1 / 16)


@pytest.mark.parametrize(("after", "p"), [([True, False], 0.5), ([True, True], 1.0)])
def test_one_item_that_changed_has_two_signs(after: list[bool], p: float) -> None:
    before = [[True, False], [True, True], [False, False]]
    if after == [True, False]:
        before[0] = [True, True]
    found = paired_accuracy(before, [after, *before[1:]], 0.95, seed=1)
    assert (found.p, found.n) == (p, 3)


@pytest.mark.parametrize(("samples", "runs"), [(1, 400), (3, 80)])
def test_a_null_candidate_is_found_harmful_as_often_as_alpha_says(samples: int, runs: int) -> None:
    random = np.random.default_rng(11)
    found = 0
    for _ in range(runs):
        before = (random.random((40, samples)) < 0.6).tolist()
        after = (random.random((40, samples)) < 0.6).tolist()
        p = paired_accuracy(before, after, confidence=0.95, seed=0).p
        assert p is not None
        found += p <= 0.05
    assert found <= runs * 0.05 + 2 * (runs * 0.05 * 0.95) ** 0.5


def test_is_the_same_for_the_same_seed() -> None:
    random = np.random.default_rng(1)
    before, after = ((random.random((50, 3)) < 0.5).tolist() for _ in range(2))
    assert paired_accuracy(before, after, 0.95, 3) == paired_accuracy(before, after, 0.95, 3)


def test_without_items_there_is_no_estimate() -> None:
    result = paired_accuracy([], [], confidence=0.95, seed=0)
    assert result.estimate is None
    assert result.n == 0


@pytest.mark.parametrize(
    ("before", "after", "confidence", "words"),
    [
        ([[True]], [[True], [False]], 0.95, "1 items cannot be paired with 2"),
        ([[]], [[True]], 0.95, "no sample"),
        ([[True]], [[True]], 95, "must be a share"),
    ],
)
def test_what_cannot_be_paired_is_an_error(
    before: Outcomes, after: Outcomes, confidence: float, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        paired_accuracy(before, after, confidence=confidence, seed=0)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60))
def test_one_more_loss_is_never_better(neither: int, gains: int, losses: int) -> None:
    one = paired_accuracy(*outcomes(0, gains, losses, neither), confidence=0.95, seed=0)
    worse = paired_accuracy(*outcomes(0, gains, losses + 1, neither - 1), confidence=0.95, seed=0)
    assert one.estimate is not None
    assert worse.estimate is not None
    assert one.p is not None
    assert worse.p is not None
    assert worse.estimate < one.estimate
    assert worse.p <= one.p
    assert worse.lower_bound is not None
    assert one.lower_bound is not None
    assert worse.lower_bound <= one.lower_bound + 1e-9

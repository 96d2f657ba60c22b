"""Diversity against counting by hand and leaving out by brute force."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy import stats

from alignment_worker.statistics.diversity import distinct2_drop, identical_change

Answers = list[list[int]]


def random_answers(random: np.random.Generator, prompts: int = 60, words: int = 30) -> Answers:
    return [random.integers(0, words, int(random.integers(2, 15))).tolist() for _ in range(prompts)]


def distinct2(answers: Answers) -> float:
    """The share of bigrams that are different from each other, by listing them."""
    bigrams = [tuple(answer[start : start + 2]) for answer in answers for start in range(len(answer) - 1)]
    return len(set(bigrams)) / len(bigrams)


def test_the_drop_by_hand() -> None:
    incumbent = [[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 3, 5], [2, 4, 6]]
    candidate = [[1, 2, 3], [1, 2, 3], [7, 8, 9], [1, 3, 5], [1, 2, 6]]
    # Ten bigrams: all different before; [1,2] [2,3] [7,8] [8,9] [1,3] [3,5] [2,6] after.
    assert distinct2_drop(candidate, incumbent, 0.95).estimate == pytest.approx(30.0)


def test_longer_answers_alone_are_no_drop() -> None:
    incumbent = [[10 * prompt + token for token in range(5)] for prompt in range(40)]
    candidate = [answer + [0, 1] * 100 for answer in incumbent]
    result = distinct2_drop(candidate, incumbent, 0.95)
    assert result.estimate == pytest.approx(0)


def test_the_interval_is_the_jackknifes_by_brute_force() -> None:
    random = np.random.default_rng(0)
    candidate, incumbent = random_answers(random, 30), random_answers(random, 30)
    cut = [min(len(one), len(other)) for one, other in zip(candidate, incumbent, strict=True)]
    candidate = [answer[:length] for answer, length in zip(candidate, cut, strict=True)]
    incumbent = [answer[:length] for answer, length in zip(incumbent, cut, strict=True)]

    def log_ratio(left_out: int | None) -> float:
        kept = [index for index in range(30) if index != left_out]
        new, old = (distinct2([answers[index] for index in kept]) for answers in (candidate, incumbent))
        return log(new / old)

    values = np.array([log_ratio(index) for index in range(30)])
    error = np.sqrt(29 / 30 * ((values - values.mean()) ** 2).sum())
    ends = log_ratio(None) + np.array([1, -1]) * stats.t.ppf(0.975, 29) * error
    result = distinct2_drop(candidate, incumbent, 0.95)
    assert result.estimate == pytest.approx(100 * (1 - np.exp(log_ratio(None))))
    assert (result.low, result.high) == pytest.approx(tuple(100 * (1 - np.exp(ends))))


def test_two_draws_from_one_model_differ_by_chance_only() -> None:
    """An interval that excludes no change where there is none may happen in one of twenty."""
    random = np.random.default_rng(2)
    excluded = 0
    for _ in range(200):
        result = distinct2_drop(random_answers(random), random_answers(random), 0.95)
        assert result.low is not None
        assert result.high is not None
        excluded += not result.low <= 0 <= result.high
    assert excluded <= 200 * 0.05 + 2 * (200 * 0.05 * 0.95) ** 0.5


def test_canned_answers_are_a_large_and_certain_drop() -> None:
    random = np.random.default_rng(6)
    incumbent = random_answers(random)
    result = distinct2_drop([[1, 2, 3, 4, 5, 6, 7, 8]] * 60, incumbent, 0.95)
    assert result.estimate is not None
    assert result.estimate > 90
    assert result.low is not None
    assert result.low > 80


def test_canned_and_short_answers_are_seen_as_identical() -> None:
    """Cut to one token both sides lose their bigrams there, so distinct-2 alone would not see them."""
    random = np.random.default_rng(8)
    incumbent = [random.integers(0, 1000, 8).tolist() for _ in range(100)]
    candidate = [[1]] * 50 + incumbent[50:]
    assert distinct2_drop(candidate, incumbent, 0.95).estimate == pytest.approx(0)
    result = identical_change(candidate, incumbent, 0.95)
    assert result.estimate == pytest.approx(50)
    assert result.low is not None
    assert result.low > 35


def test_identical_answers_by_hand_and_by_brute_force() -> None:
    candidate = [[1], [1], [2], [3], [3], [3], [4], [5], [6], [7]]
    incumbent = [[1], [2], [3], [4], [5], [6], [7], [8], [8], [8]]

    def change(left_out: int | None) -> float:
        kept = [index for index in range(10) if index != left_out]
        shares = []
        for answers in (candidate, incumbent):
            chosen = [answers[index] for index in kept]
            shares.append(np.mean([chosen.count(answer) > 1 for answer in chosen]))
        return float(shares[0] - shares[1])

    values = np.array([change(index) for index in range(10)])
    error = np.sqrt(9 / 10 * ((values - values.mean()) ** 2).sum())
    result = identical_change(candidate, incumbent, 0.95)
    assert result.estimate == pytest.approx(100 * change(None))
    assert result.estimate == pytest.approx(20)
    assert result.low == pytest.approx(100 * (change(None) - stats.t.ppf(0.975, 9) * error))


def test_one_token_answers_have_no_bigrams() -> None:
    result = distinct2_drop([[1]] * 9, [[2, 3]] * 9, 0.95)
    assert result.estimate is None
    assert result.n == 0


def test_a_handful_of_prompts_has_no_interval() -> None:
    for measure in (distinct2_drop, identical_change):
        assert measure([[1, 2], [3, 4]], [[1, 2], [3, 4]], 0.95).low is None
        assert measure([[1, 2]], [[1, 2]], 0.95).estimate == pytest.approx(0)


def test_answers_that_cannot_be_paired_are_an_error() -> None:
    for measure in (distinct2_drop, identical_change):
        with pytest.raises(ValueError, match="cannot be paired"):
            measure([[1]], [], 0.95)

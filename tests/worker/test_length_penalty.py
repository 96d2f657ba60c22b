"""What length costs a score, against scores that were made by a known rule."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from alignment_api.cycle import LengthPenalty
from alignment_worker import length_penalty


def row(lengths: list[int]) -> dict[str, Any]:
    return {"completions": [{"ids": [1] * length} for length in lengths]}


def drawn(
    slope: float, prompts: int = 40, *, noise: float = 0.3
) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """Quality, plus `slope` a token, plus a level of each prompt that grows with how long its answers are."""
    randomly = random.Random(5)
    samples, scores = [], []
    for _ in range(prompts):
        typical = randomly.randint(10, 200)
        lengths = [typical + randomly.randint(0, 30) for _ in range(4)]
        samples.append(row(lengths))
        scores.append([-0.1 * typical + slope * each + randomly.gauss(0, noise) for each in lengths])
    return samples, scores


def test_the_slope_is_that_of_least_squares_with_a_level_for_each_prompt() -> None:
    samples, scores = drawn(0.05)
    found = length_penalty.slope(samples, scores, 0.95, seed=0)
    tokens = [np.array([len(each["ids"]) for each in made["completions"]], float) for made in samples]
    within = np.concatenate([each - each.mean() for each in tokens])
    centred = np.concatenate([np.array(each) - np.mean(each) for each in scores])
    assert found.estimate == pytest.approx(stats.linregress(within, centred).slope)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.05 < found.high
    assert found.n == 40


def test_answers_of_one_length_say_nothing_of_length() -> None:
    samples, scores = [row([7, 7, 7])] * 6, [[1.0, 2.0, 3.0]] * 6
    found = length_penalty.slope(samples, scores, 0.95, seed=0)
    assert (found.estimate, found.n) == (None, 0)
    assert length_penalty.applied(samples, scores, LengthPenalty(type="Residual")) == scores


def test_without_a_penalty_scores_stay() -> None:
    samples, scores = drawn(0.05)
    assert length_penalty.applied(samples, scores, None) == scores
    assert length_penalty.applied(samples, scores, LengthPenalty()) == scores


def test_a_linear_penalty_costs_every_token_the_same() -> None:
    penalty = LengthPenalty(type="Linear", coefficient=0.5)
    assert length_penalty.applied([row([2, 10])], [[1.0, -1.0]], penalty) == [[0.0, -6.0]]


def test_the_residual_has_no_slope_left() -> None:
    samples, scores = drawn(0.05)
    left = length_penalty.applied(samples, scores, LengthPenalty(type="Residual"))
    assert length_penalty.slope(samples, left, 0.95, seed=0).estimate == pytest.approx(0, abs=1e-12)
    means = [np.mean(values) for values in left]
    assert means == pytest.approx([np.mean(values) for values in scores])


def test_a_judge_that_prefers_short_answers_is_not_paid_back() -> None:
    samples, scores = drawn(-0.05)
    assert length_penalty.applied(samples, scores, LengthPenalty(type="Residual")) == scores

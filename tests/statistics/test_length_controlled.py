"""The win rate at equal length: what it gives back of a truth that is known, and where it says nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special

from alignment_worker.statistics import length_controlled

CONFIDENCE = 0.95


def drawn(theta: float, phi: float, count: int, seed: int) -> tuple[list[float], list[int]]:
    """Comparisons of a candidate that is mostly longer, by the model."""
    draw = np.random.default_rng(seed)
    longer = np.rint(draw.normal(40, 60, count))
    chance = special.expit(theta + phi * np.tanh(longer / longer.std()))
    return (draw.random(count) < chance).astype(float).tolist(), longer.astype(int).tolist()


def test_it_is_the_maximum_of_the_likelihood() -> None:
    """Against the likelihood itself, written down and maximised."""
    won, longer = drawn(0.2, 1.0, 300, 1)
    tanh = np.tanh(np.asarray(longer) / np.std(longer))

    def loss(parameters: np.ndarray) -> float:
        logits = parameters[0] + parameters[1] * tanh
        return float(-(np.asarray(won) * logits + special.log_expit(-logits)).sum())

    best = optimize.minimize(loss, np.zeros(2), tol=1e-12)
    found = length_controlled.win_rate(won, longer, CONFIDENCE)
    assert found.estimate == pytest.approx(100 * special.expit(best.x[0]), abs=1e-4)
    assert found.n == 300


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    truth, held, runs = 100 * special.expit(0.1), 0, 300
    for seed in range(runs):
        found = length_controlled.win_rate(*drawn(0.1, 1.2, 250, seed), CONFIDENCE)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert abs(held / runs - CONFIDENCE) < 3 * (CONFIDENCE * (1 - CONFIDENCE) / runs) ** 0.5


def test_a_win_by_length_alone_is_taken_away() -> None:
    won, longer = drawn(0.0, 2.0, 2000, 3)
    assert 100 * np.mean(won) > 60
    found = length_controlled.win_rate(won, longer, CONFIDENCE)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 50 < found.high


def test_where_all_are_equally_long_it_is_the_win_rate() -> None:
    won = [1.0] * 30 + [0.5] * 10 + [0.0] * 20
    found = length_controlled.win_rate(won, [0] * 60, CONFIDENCE)
    assert found.estimate == pytest.approx(100 * np.mean(won))


def test_shares_may_be_quarters() -> None:
    won = [0.0, 0.25, 0.5, 0.75, 1.0] * 20
    assert length_controlled.win_rate(won, [3, -1, 4, 1, -5] * 20, CONFIDENCE).estimate is not None


@pytest.mark.parametrize(
    ("won", "longer"),
    [
        ([1.0] * 50, list(range(50))),
        ([0.0] * 50, list(range(50))),
        ([0.0] * 25 + [1.0] * 25, list(range(-25, 25))),
        ([1.0, 0.0, 1.0], [1, 2, 3]),
        ([], []),
    ],
    ids=["won all", "lost all", "length decides all", "three", "none"],
)
def test_what_cannot_be_told_apart_is_null(won: list[float], longer: list[int]) -> None:
    found = length_controlled.win_rate(won, longer, CONFIDENCE)
    assert (found.estimate, found.low, found.high, found.n) == (None, None, None, len(won))

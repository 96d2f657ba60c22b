"""The arithmetic of PPO equals an independent reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from alignment_worker import ppo
from tests.worker import ppo_reference as by_hand

CLOSE = 1e-5
LENGTHS = (7, 1, 4, 12, 3)
BETA, GAMMA, LAMBDA, CLIP = 0.3, 0.97, 0.9, 0.2


def draw(seed: int, low: float, high: float) -> by_hand.Batch:
    generator = np.random.default_rng(seed)
    return [generator.uniform(low, high, length) for length in LENGTHS]


OLD = draw(1, -4.0, -0.1)
NEW = [row + change for row, change in zip(OLD, draw(2, -0.6, 0.6), strict=True)]
REFERENCE = draw(3, -4.0, -0.1)
VALUES = draw(4, -1.0, 1.0)
NEW_VALUES = [row + change for row, change in zip(VALUES, draw(5, -0.5, 0.5), strict=True)]
SCORES = (0.5, -1.25, 2.0, 0.0, 0.75)


def matrix(batch: Sequence[Sequence[float] | by_hand.Tokens], padding: float = 1e6) -> torch.Tensor:
    """With what would be seen at once if it were read."""
    width = max(map(len, batch))
    return torch.tensor([[padding] * (width - len(row)) + list(row) for row in batch], dtype=torch.float32)


MASK = matrix([[1.0] * length for length in LENGTHS], 0.0).bool()


def rows(found: torch.Tensor) -> by_hand.Batch:
    return [row[mask].double().numpy() for row, mask in zip(found, MASK, strict=True)]


def assert_equal(found: torch.Tensor, wanted: by_hand.Batch) -> None:
    for mine, other in zip(rows(found), wanted, strict=True):
        np.testing.assert_allclose(mine, other, atol=CLOSE)


def rewards() -> torch.Tensor:
    return ppo.token_rewards(matrix(OLD), matrix(REFERENCE), torch.tensor(SCORES), MASK, BETA)


def test_each_token_pays_for_its_distance_and_the_last_gets_the_score() -> None:
    assert_equal(rewards(), by_hand.rewards(OLD, REFERENCE, SCORES, BETA))


@pytest.mark.parametrize("centred", [True, False])
def test_whitening_looks_at_all_tokens_and_at_nothing_else(centred: bool) -> None:
    found = ppo.whitened(rewards(), MASK, centred=centred)
    wanted = by_hand.whitened(by_hand.rewards(OLD, REFERENCE, SCORES, BETA), centred=centred)
    assert_equal(found, wanted)
    assert (found[~MASK] == 0).all()


@pytest.mark.parametrize(("gamma", "lam"), [(GAMMA, LAMBDA), (1.0, 0.95), (0.9, 0.0), (1.0, 1.0)])
def test_advantages_are_those_of_gae(gamma: float, lam: float) -> None:
    found = ppo.advantages(rewards(), matrix(VALUES), MASK, gamma, lam)
    assert_equal(found, by_hand.advantages(by_hand.rewards(OLD, REFERENCE, SCORES, BETA), VALUES, gamma, lam))


def test_losses_and_their_gradients_are_those_of_the_clipped_objectives() -> None:
    """Gradients against finite differences of the reference."""
    reward = by_hand.rewards(OLD, REFERENCE, SCORES, BETA)
    gains = by_hand.advantages(reward, VALUES, GAMMA, LAMBDA)
    returns = [gain + value for gain, value in zip(gains, VALUES, strict=True)]
    white = by_hand.whitened(gains, centred=True)
    new, values = matrix(NEW).requires_grad_(), matrix(NEW_VALUES).requires_grad_()
    policy = ppo.mean(ppo.policy_losses(new, matrix(OLD), matrix(white), CLIP), MASK)
    value = ppo.mean(ppo.value_losses(values, matrix(VALUES), matrix(returns), CLIP), MASK)
    assert policy.item() == pytest.approx(by_hand.policy_loss(NEW, OLD, white, CLIP), abs=CLOSE)
    assert value.item() == pytest.approx(by_hand.value_loss(NEW_VALUES, VALUES, returns, CLIP), abs=CLOSE)
    (policy + value).backward()
    for index, row in enumerate(NEW):
        for token in range(len(row)):
            step = np.zeros(len(row))
            step[token] = 1e-6
            for gradient, losses in (
                (
                    new.grad,
                    [by_hand.policy_loss(_moved(NEW, index, s), OLD, white, CLIP) for s in (step, -step)],
                ),
                (
                    values.grad,
                    [
                        by_hand.value_loss(_moved(NEW_VALUES, index, s), VALUES, returns, CLIP)
                        for s in (step, -step)
                    ],
                ),
            ):
                assert gradient is not None
                found = gradient[index, MASK.shape[1] - len(row) + token].item()
                assert found == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=CLOSE)


def _moved(batch: by_hand.Batch, index: int, step: by_hand.Tokens) -> by_hand.Batch:
    return [row + step if place == index else row for place, row in enumerate(batch)]


def test_distances_are_k1_and_k3_and_clipped_tokens_are_counted() -> None:
    k1 = ppo.mean(matrix(OLD) - matrix(REFERENCE), MASK)
    assert k1.item() == pytest.approx(by_hand.k1(OLD, REFERENCE), abs=CLOSE)
    k3 = ppo.mean(ppo.moved(matrix(NEW), matrix(OLD)), MASK)
    assert k3.item() == pytest.approx(by_hand.k3(NEW, OLD), abs=CLOSE)
    share = ppo.mean(ppo.clipped(matrix(NEW), matrix(OLD), CLIP), MASK)
    assert 0 < share.item() < 1
    assert share.item() == pytest.approx(by_hand.clip_fraction(NEW, OLD, CLIP), abs=CLOSE)


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.1, 1.0), (0.11, 1.01), (0.09, 0.99), (5.0, 1.02), (-1.0, 0.98)]
)
def test_beta_follows_the_distance_by_two_percent_at_most(kl: float, factor: float) -> None:
    assert ppo.next_beta(0.2, kl, target=0.1) == pytest.approx(0.2 * factor)


def test_scores_are_divided_by_length_and_a_missing_eos_costs() -> None:
    scores, lengths = torch.tensor([6.0, 6.0, -2.0]), torch.tensor([2, 3, 4])
    truncated = torch.tensor([0.0, 1.0, 0.0])
    plain = ppo.shaped(scores, lengths, truncated, by_length=False, missing_eos_penalty=0.5)
    assert plain.tolist() == [6.0, 5.5, -2.0]
    shared = ppo.shaped(scores, lengths, truncated, by_length=True, missing_eos_penalty=0.0)
    assert shared.tolist() == [3.0, 2.0, -0.5]

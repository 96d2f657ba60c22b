"""The arithmetic of PPO on completions: rewards, advantages, losses and the KL coefficient, as pure functions.

A matrix is completions × positions, padded on the left, so that its last column holds every completion's last token;
`mask` is true where there is a token, and what stands elsewhere is never read. Log-probabilities are in nats.

Sources: Schulman et al. 2017, arXiv:1707.06347 (PPO); Schulman et al. 2015, arXiv:1506.02438 (GAE); Ziegler et al.
2019, arXiv:1909.08593 (KL penalty as a reward, adaptive coefficient); Huang et al. 2024, arXiv:2403.17031 (what
implementations do); Schulman 2020, http://joschu.net/blog/kl-approx.html (estimators k1 and k3).
"""

from __future__ import annotations

import torch

_STEP_OF_BETA = 0.1  # K_β of Ziegler et al. 2019, section 2.2
_LARGEST_ERROR = 0.2
_EPSILON = 1e-8


def mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Over the tokens of all completions, a scalar."""
    return torch.where(mask, values, 0.0).sum() / mask.sum()


def whitened(values: torch.Tensor, mask: torch.Tensor, *, centred: bool) -> torch.Tensor:
    """Divided by the standard deviation over all tokens; `centred` or with the mean that they had."""
    centre = mean(values, mask)
    deviation = (mean((values - centre) ** 2, mask) + _EPSILON).sqrt()
    scaled = (values - centre) / deviation
    return torch.where(mask, scaled if centred else scaled + centre, 0.0)


def shaped(
    scores: torch.Tensor,
    lengths: torch.Tensor,
    truncated: torch.Tensor,
    *,
    by_length: bool,
    missing_eos_penalty: float,
) -> torch.Tensor:
    """The judge's scores, one a completion, as they are rewarded: a token's share if `by_length`, less the penalty of
    a completion that has no EOS.
    """
    per_answer = scores / lengths if by_length else scores
    return per_answer - missing_eos_penalty * truncated


def token_rewards(
    old: torch.Tensor, reference: torch.Tensor, scores: torch.Tensor, mask: torch.Tensor, beta: float
) -> torch.Tensor:
    """−β (log π − log π_ref) at each token (k1), and the score at the last (Ziegler et al. 2019, equation 2)."""
    rewards = torch.where(mask, -beta * (old - reference), 0.0)
    rewards[:, -1] += scores
    return rewards


def advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, gae_lambda: float
) -> torch.Tensor:
    """GAE (Schulman et al. 2015, equation 16): Σ (γλ)^l δ_{t+l}, δ_t = r_t + γ V_{t+1} − V_t, nothing behind the end.

    With the values added they are the returns that the value loss aims at.
    """
    found = torch.zeros_like(rewards)
    following = next_value = rewards.new_zeros(len(rewards))
    for column in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, column] + gamma * next_value - values[:, column]
        following = delta + gamma * gae_lambda * following
        found[:, column] = following
        next_value = values[:, column]
    return torch.where(mask, found, 0.0)


def policy_losses(
    new: torch.Tensor, old: torch.Tensor, advantage: torch.Tensor, clip_range: float
) -> torch.Tensor:
    """Of each token: the clipped objective (Schulman et al. 2017, equation 7), negative."""
    ratio = (new - old).exp()
    return torch.maximum(-advantage * ratio, -advantage * ratio.clamp(1 - clip_range, 1 + clip_range))


def value_losses(
    new: torch.Tensor, old: torch.Tensor, returns: torch.Tensor, clip_range: float
) -> torch.Tensor:
    """Of each token: half the squared error, or that of the value moved by no more than `clip_range` if it is larger
    (Huang et al. 2024, detail "value function loss clipping").
    """
    near = torch.maximum(torch.minimum(new, old + clip_range), old - clip_range)
    return 0.5 * torch.maximum((new - returns) ** 2, (near - returns) ** 2)


def moved(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
    """KL(old ‖ new) at each token, estimated on tokens that `old` drew: k3, unbiased and never negative."""
    difference = new - old
    return torch.expm1(difference) - difference


def clipped(new: torch.Tensor, old: torch.Tensor, clip_range: float) -> torch.Tensor:
    """1 at each token whose ratio is outside the clip range, else 0."""
    return (((new - old).exp() - 1).abs() > clip_range).float()


def next_beta(beta: float, kl: float, target: float) -> float:
    """The KL coefficient for the next batch, when this one was `kl` from the reference: up by at most 2 %, or down
    (Ziegler et al. 2019, section 2.2).
    """
    error = min(max(kl / target - 1, -_LARGEST_ERROR), _LARGEST_ERROR)
    return beta * (1 + _STEP_OF_BETA * error)

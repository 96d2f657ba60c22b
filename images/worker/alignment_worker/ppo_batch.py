"""A batch of episodes with all that the steps on it need: computed once, before the first of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from alignment_api.ppo import PPO
from alignment_worker import ppo
from alignment_worker.ppo_models import Actor, Reference
from alignment_worker.ppo_rollouts import Episode


@dataclass(frozen=True)
class Part:
    """Some episodes with their rows and columns of the batch's matrices."""

    prompts: list[list[int]]
    completions: list[list[int]]
    where: tuple[slice, slice]


@dataclass(frozen=True)
class Batch:
    """Matrices as in `ppo`. `returns` are what the values aim at; `kl` is from the reference, nats a token."""

    episodes: list[Episode]
    mask: torch.Tensor
    old: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor
    kl: float

    @property
    def score(self) -> float:
        """The judge's, mean."""
        return sum(episode.score for episode in self.episodes) / len(self.episodes)

    @property
    def length(self) -> float:
        """Tokens of a completion, EOS counted, mean."""
        return float(self.mask.sum()) / len(self.episodes)

    @property
    def most_frequent(self) -> float:
        """Share of the completions that are the same as the most frequent one."""
        said = Counter(tuple(episode.completion.ids) for episode in self.episodes)
        return max(said.values()) / len(self.episodes)

    @property
    def truncated(self) -> float:
        """Share of completions without EOS."""
        return sum(episode.completion.truncated for episode in self.episodes) / len(self.episodes)


def parts(episodes: Sequence[Episode], size: int) -> Iterator[Part]:
    """Each with no more columns than its longest completion has tokens."""
    width = max(len(episode.completion.ids) for episode in episodes)
    for start in range(0, len(episodes), size):
        some = episodes[start : start + size]
        completions = [episode.completion.ids for episode in some]
        columns = slice(width - max(map(len, completions)), width)
        yield Part(
            [episode.prompt for episode in some], completions, (slice(start, start + len(some)), columns)
        )


def prepared(
    episodes: Sequence[Episode],
    actor: Actor,
    reference: Reference,
    settings: PPO,
    *,
    beta: float,
    temperature: float,
    part_size: int,
) -> Batch:
    """The longest come first: what does not fit into memory fails at once, and padding wastes little.

    The sampler's own log-probabilities are those before the first step if the temperature is 1, for it records raw
    ones; at another temperature they are computed.
    """
    ordered = sorted(episodes, key=lambda episode: -len(episode.prompt) - len(episode.completion.ids))
    device = actor.language.model.device
    completions = [episode.completion for episode in ordered]
    mask = _matrix([[1.0] * len(completion.ids) for completion in completions], device).bool()
    old = _matrix([completion.log_probs for completion in completions], device)
    values = torch.zeros_like(old)
    with torch.no_grad():
        for part in parts(ordered, part_size):
            if temperature == 1:
                values[part.where] = actor.values(part.prompts, part.completions)
            else:
                said = actor.say(part.prompts, part.completions, temperature)
                values[part.where], old[part.where] = said.values, said.log_probs
    prompts, ids = [episode.prompt for episode in ordered], [completion.ids for completion in completions]
    anchor = _matrix(reference.log_probs(prompts, ids, temperature), device)
    scores = ppo.shaped(
        torch.tensor([episode.score for episode in ordered], device=device),
        mask.sum(1),
        torch.tensor([float(completion.truncated) for completion in completions], device=device),
        by_length=settings.length_normalized_reward,
        missing_eos_penalty=settings.missing_eos_penalty,
    )
    rewards = ppo.token_rewards(old, anchor, scores, mask, beta)
    if settings.whiten_rewards:
        rewards = ppo.whitened(rewards, mask, centred=False)
    advantages = ppo.advantages(rewards, values, mask, settings.gamma, settings.gae_lambda)
    return Batch(
        episodes=ordered,
        mask=mask,
        old=old,
        values=values,
        advantages=ppo.whitened(advantages, mask, centred=True),
        returns=advantages + values,
        kl=float(ppo.mean(old - anchor, mask)),
    )


def _matrix(rows: Sequence[Sequence[float]], device: torch.device) -> torch.Tensor:
    """Padded on the left."""
    width = max(map(len, rows))
    return torch.tensor([[0.0] * (width - len(row)) + list(row) for row in rows], device=device)

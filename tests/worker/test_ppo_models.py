"""What policy, value and reference say in padded batches is what they say of each completion alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from alignment_api.cycle import Lora
from alignment_api.ppo import PPO
from alignment_worker import lora, models, ppo_batch, ppo_models
from alignment_worker.generate import Completion
from alignment_worker.ppo_models import Actor
from alignment_worker.ppo_rollouts import Episode
from alignment_worker.train_trainer import without_known_warnings
from tests.worker import ppo_reference as by_hand

PROMPTS = [[1, 9, 8], [1, 20, 21, 22, 23, 24], [1, 12], [1, 30, 31]]
COMPLETIONS = [[10, 11, 12, 13, 2], [14, 2], [15, 16, 17, 18, 19, 20, 21, 2], [33]]
SCORES = (0.5, -1.0, 2.0, 1.5)
SETTINGS = PPO(gamma=0.98, gae_lambda=0.9, missing_eos_penalty=0.25)
CLOSE = 1e-5


def actor(folder: Path, adapters: Any | None = None) -> Actor:
    made = Actor(folder, adapters, models.load_tokenizer(folder), torch.float32)
    torch.manual_seed(3)
    with torch.no_grad():
        made.head.weight.normal_(0, 0.3)
        made.head.bias.fill_(0.1)
    return made


def alone(folder: Path, temperature: float, head: torch.nn.Linear) -> tuple[by_hand.Batch, by_hand.Batch]:
    """Log-probabilities and values, one completion after the other, by transformers alone."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    found, values = [], []
    for prompt, completion in zip(PROMPTS, COMPLETIONS, strict=True):
        with torch.no_grad():
            output = model(input_ids=torch.tensor([prompt + completion]), output_hidden_states=True)
        logits = output.logits[0].double().numpy() / temperature
        hidden = output.hidden_states[-1][0].double().numpy()
        places = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
        whole = prompt + completion
        found.append(np.array([by_hand.log_softmax(logits[place])[whole[place + 1]] for place in places]))
        weight, bias = head.weight[0].detach().double().numpy(), head.bias.item()
        values.append(np.array([float(hidden[place] @ weight) + bias for place in places]))
    return found, values


def episodes(log_probs: by_hand.Batch) -> list[Episode]:
    return [
        Episode(prompt, Completion(ids, row.tolist(), [], truncated=ids[-1] != 2), score)
        for prompt, ids, row, score in zip(PROMPTS, COMPLETIONS, log_probs, SCORES, strict=True)
    ]


def in_order(batch: ppo_batch.Batch, matrix: torch.Tensor) -> by_hand.Batch:
    """Of a matrix the rows of PROMPTS, without padding."""
    rows = {
        tuple(episode.prompt): row[mask].detach().double().numpy()
        for episode, row, mask in zip(batch.episodes, matrix, batch.mask, strict=True)
    }
    return [rows[tuple(prompt)] for prompt in PROMPTS]


def assert_equal(found: by_hand.Batch, wanted: by_hand.Batch) -> None:
    for mine, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine, other, atol=CLOSE)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("architecture", ["llama", "gemma"])
def test_a_batch_holds_what_each_completion_has_alone(
    architecture: str, temperature: float, request: pytest.FixtureRequest, other_llama: Path
) -> None:
    folder: Path = request.getfixturevalue(architecture)
    anchor = other_llama if architecture == "llama" else folder
    mine = actor(folder)
    reference = ppo_models.reference(
        mine, anchor, models.load_tokenizer(anchor), torch.float32, is_start=False
    )
    old, values = alone(folder, temperature, mine.head)
    other, _ = alone(anchor, temperature, mine.head)
    batch = ppo_batch.prepared(
        episodes(old), mine, reference, SETTINGS, beta=0.2, temperature=temperature, part_size=3
    )
    scores = [score - 0.25 * (ids[-1] != 2) for score, ids in zip(SCORES, COMPLETIONS, strict=True)]
    rewards = by_hand.whitened(by_hand.rewards(old, other, scores, 0.2), centred=False)
    gains = by_hand.advantages(rewards, values, SETTINGS.gamma, SETTINGS.gae_lambda)
    assert_equal(in_order(batch, batch.old), old)
    assert_equal(in_order(batch, batch.values), values)
    assert_equal(in_order(batch, batch.advantages), by_hand.whitened(gains, centred=True))
    returns = [gain + value for gain, value in zip(gains, values, strict=True)]
    assert_equal(in_order(batch, batch.returns), returns)
    assert batch.kl == pytest.approx(by_hand.k1(old, other), abs=CLOSE)
    assert (batch.score, batch.length, batch.truncated) == (0.75, 4.0, 0.25)


def test_what_is_differentiated_is_what_was_said_before(llama: Path) -> None:
    mine = actor(llama)
    said = mine.say(PROMPTS, COMPLETIONS, 1.0)
    old, values = alone(llama, 1.0, mine.head)
    for index, ids in enumerate(COMPLETIONS):
        np.testing.assert_allclose(said.log_probs[index, -len(ids) :].tolist(), old[index], atol=CLOSE)
        np.testing.assert_allclose(said.values[index, -len(ids) :].tolist(), values[index], atol=CLOSE)
    (said.log_probs.sum() + said.values.sum()).backward()
    assert all(parameter.grad is not None for parameter in mine.trained().values())
    assert not said.entropies.requires_grad


def test_with_adapters_the_reference_is_the_start_whatever_they_have_learned(llama: Path) -> None:
    torch.manual_seed(0)
    skeleton = models.load_weights("start", llama, torch.float32)
    adapters = lora.configuration(Lora(rank=4, alpha=8), skeleton)
    with without_known_warnings():
        mine = actor(llama, adapters)
    reference = ppo_models.reference(mine, llama, models.load_tokenizer(llama), torch.float32, is_start=True)
    trained = {name for name in mine.trained() if name.startswith("policy.")}
    assert trained
    assert all("lora_" in name for name in trained)
    with torch.no_grad():
        for name in trained:
            mine.trained()[name].add_(0.05)
    wanted, _ = alone(llama, 1.0, mine.head)
    found = reference.log_probs(PROMPTS, COMPLETIONS, 1.0)
    assert_equal([np.array(row) for row in found], wanted)
    with torch.no_grad():
        said = mine.say(PROMPTS, COMPLETIONS, 1.0)
    assert abs(said.log_probs[0, -1].item() - wanted[0][-1]) > 0.01
    assert all(value.requires_grad for value in mine.trained().values())

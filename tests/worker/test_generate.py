"""How answers are sampled: shared prefill, recorded log-probabilities, independence of the batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alignment_worker import generate as generating
from alignment_worker import logprobs, models
from alignment_worker.failures import InvalidModelError
from alignment_worker.generate import Completion, Decoding, generate
from alignment_worker.models import LanguageModel
from tests.worker import tiny

PROMPTS = [[1, 7, 8, 9], [1, 10], [1, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18], [1, 20, 21, 22]]
KEYS = [1, 2, 3, 4]
SAMPLED = Decoding(samples=5, temperature=1.0, top_p=1.0, max_new_tokens=20, seed=7)
GREEDY = Decoding(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=20, seed=0)


@pytest.fixture(params=["llama", "qwen", "gemma"])
def policy(request: pytest.FixtureRequest) -> LanguageModel:
    return models.load_policy("policy", request.getfixturevalue(request.param))


def fresh_log_probs(policy: LanguageModel, prompt: list[int], ids: list[int]) -> list[float]:
    """By one plain forward pass without cache, padding or batch."""
    with torch.inference_mode():
        logits = policy.model(torch.tensor([prompt + ids])).logits[0].float().log_softmax(-1)
    return [float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(ids)]


def tokens(answers: list[list[Completion]]) -> list[list[list[int]]]:
    return [[answer.ids for answer in some] for some in answers]


def test_recorded_log_probabilities_equal_a_fresh_forward_pass(policy: LanguageModel) -> None:
    decoding = replace(SAMPLED, temperature=0.7, top_p=0.9)
    for prompt, some in zip(PROMPTS, generate(policy, PROMPTS, KEYS, decoding), strict=True):
        for answer in some:
            fresh = fresh_log_probs(policy, prompt, answer.ids)
            assert answer.log_probs == pytest.approx(fresh, abs=2e-5)


def test_shared_prefill_draws_what_separate_prompts_draw(policy: LanguageModel) -> None:
    together = generate(policy, PROMPTS, KEYS, SAMPLED)
    alone = [generate(policy, [prompt], [key], SAMPLED)[0] for prompt, key in zip(PROMPTS, KEYS, strict=True)]
    assert tokens(together) == tokens(alone)
    assert len({tuple(answer.ids) for answer in together[0]}) > 1


def test_a_prompt_with_more_samples_than_fit_draws_the_same(
    policy: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = generate(policy, PROMPTS, KEYS, SAMPLED)
    monkeypatch.setattr(generating, "MAX_ROWS", 2)
    assert tokens(generate(policy, PROMPTS, KEYS, SAMPLED)) == tokens(at_once)


def test_the_order_of_prompts_changes_nothing(policy: LanguageModel) -> None:
    forward = generate(policy, PROMPTS, KEYS, SAMPLED)
    backward = generate(policy, PROMPTS[::-1], KEYS[::-1], SAMPLED)
    assert tokens(forward) == tokens(backward[::-1])


def test_seed_and_key_choose_the_draw(policy: LanguageModel) -> None:
    assert tokens(generate(policy, PROMPTS, KEYS, SAMPLED)) == tokens(
        generate(policy, PROMPTS, KEYS, SAMPLED)
    )
    other_seed = generate(policy, PROMPTS, KEYS, replace(SAMPLED, seed=8))
    other_keys = generate(policy, PROMPTS, [11, 12, 13, 14], SAMPLED)
    assert tokens(other_seed) != tokens(generate(policy, PROMPTS, KEYS, SAMPLED)) != tokens(other_keys)


def test_greedy_equals_transformers_own(policy: LanguageModel) -> None:
    for prompt, (answer,) in zip(PROMPTS, generate(policy, PROMPTS, KEYS, GREEDY), strict=True):
        theirs = policy.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=GREEDY.max_new_tokens,
            pad_token_id=policy.pad_id,
            eos_token_id=sorted(policy.eos_ids),
        )[0, len(prompt) :]
        assert answer.ids == theirs.tolist()


def test_an_answer_ends_with_any_of_the_eos_ids_or_is_truncated(gemma: Path) -> None:
    policy = models.load_policy("policy", gemma)
    assert policy.eos_ids == {tiny.EOS, 9}
    answers = [
        answer for some in generate(policy, PROMPTS, KEYS, replace(SAMPLED, samples=40)) for answer in some
    ]
    assert {answer.ids[-1] for answer in answers if not answer.truncated} == {tiny.EOS, 9}
    for answer in answers:
        assert answer.truncated == (answer.ids[-1] not in policy.eos_ids)
        assert not policy.eos_ids & set(answer.ids[:-1])
        assert not answer.truncated or len(answer.ids) == SAMPLED.max_new_tokens
        assert len(answer.ids) == len(answer.log_probs) == len(answer.entropies)


def test_an_answer_ends_where_the_models_positions_do(tmp_path: Path) -> None:
    policy = models.load_policy("policy", tiny.llama(tmp_path, positions=14))
    answers = generate(policy, PROMPTS, KEYS, SAMPLED)
    for prompt, some in zip(PROMPTS, answers, strict=True):
        assert max(len(prompt) + len(answer.ids) for answer in some) <= 14
    assert any(answer.truncated and len(answer.ids) == 2 for answer in answers[2])


def test_draws_follow_the_models_distribution(llama: Path) -> None:
    policy = models.load_policy("policy", llama)
    decoding = Decoding(samples=4000, temperature=1.3, top_p=1.0, max_new_tokens=1, seed=3, entropies=True)
    (some,) = generate(policy, [PROMPTS[0]], [1], decoding)
    drawn = np.bincount([answer.ids[0] for answer in some], minlength=policy.vocabulary) / len(some)
    with torch.inference_mode():
        wanted = (policy.model(torch.tensor([PROMPTS[0]])).logits[0, -1] / 1.3).softmax(-1).numpy()
    assert np.abs(drawn - wanted).max() < 4 * np.sqrt(0.25 / len(some))
    assert some[0].entropies[0] == pytest.approx(entropy(policy, PROMPTS[0]), abs=1e-5)


def entropy(policy: LanguageModel, prompt: list[int]) -> float:
    with torch.inference_mode():
        return float(
            torch.distributions.Categorical(
                logits=policy.model(torch.tensor([prompt])).logits[0, -1]
            ).entropy()
        )


@pytest.mark.parametrize("sorted_at_once", [4096, 2])
def test_a_nucleus_is_the_least_set_with_its_probability(
    sorted_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generating, "_SORTED_AT_ONCE", sorted_at_once)
    logits = torch.tensor([[0.05, 0.4, 0.3, 0.25]]).log().repeat(200, 1)
    uniforms = torch.linspace(0, 0.999, 200)
    decoding = replace(SAMPLED, top_p=0.75)
    drawn, log_probs, _ = generating.choose(logits, uniforms, decoding)
    assert set(drawn.tolist()) == {1, 2, 3}
    assert log_probs.exp().tolist() == pytest.approx([[0.05, 0.4, 0.3, 0.25][token] for token in drawn])
    assert drawn.bincount().tolist()[1] == pytest.approx(200 * 0.4 / 0.95, abs=1)


def test_a_token_without_probability_is_never_drawn() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).repeat(3, 1)
    drawn, log_probs, entropies = generating.choose(
        logits, torch.tensor([0.0, 0.5, 1.0]), replace(SAMPLED, entropies=True)
    )
    assert drawn.tolist() == [1, 3, 3]
    assert log_probs.tolist() == pytest.approx([np.log(0.5)] * 3)
    assert entropies.tolist() == pytest.approx([np.log(2)] * 3)


def test_log_probabilities_of_given_answers_equal_a_fresh_forward_pass(policy: LanguageModel) -> None:
    completions = [[8, 9, 10], [12], [5, 6, 7, 8, 9, 10, 11], [30] * 9]
    found = logprobs.log_probs(policy, PROMPTS, completions)
    for prompt, completion, values in zip(PROMPTS, completions, found, strict=True):
        assert values == pytest.approx(fresh_log_probs(policy, prompt, completion), abs=2e-5)


def test_a_large_vocabulary_goes_through_in_parts(
    policy: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    completions = [[8, 9, 10], [12], [5, 6, 7, 8, 9, 10, 11], [30] * 9]
    whole = logprobs.log_probs(policy, PROMPTS, completions)
    widths: list[int] = []

    def counting(*arguments: object, keep: int, **others: object) -> object:
        widths.append(keep)
        return generating.forward(*arguments, keep=keep, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(logprobs, "forward", counting)
    monkeypatch.setattr(logprobs, "_LOGITS_ELEMENTS", policy.vocabulary * len(PROMPTS) * 2)
    in_parts = logprobs.log_probs(policy, PROMPTS, completions)
    assert max(widths) == 2
    assert [value for some in in_parts for value in some] == pytest.approx(
        [value for some in whole for value in some], abs=2e-5
    )


@pytest.fixture
def broken(llama: Path) -> LanguageModel:
    policy = models.load_policy("policy", llama)
    with torch.no_grad():
        policy.model.model.norm.weight.fill_(torch.nan)
    return policy


def test_a_model_that_is_not_finite_is_refused(broken: LanguageModel) -> None:
    with pytest.raises(InvalidModelError, match="not finite"):
        generate(broken, PROMPTS, KEYS, GREEDY)

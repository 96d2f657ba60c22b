"""How far one model is from another, against the sum over the whole vocabulary by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from alignment_api.measurements import DIVERGENCE, DIVERGENCE_FROM_INITIAL
from alignment_worker import divergence, logprobs, models
from alignment_worker.failures import InvalidModelError
from alignment_worker.progress import Progress
from alignment_worker.statistics.ratios import per_token
from tests.worker.loop import Loop
from tests.worker.stages import Finished

LENGTHS = ((3, 9), (7, 1), (5, 4), (12, 6))  # prompt, completion


def texts(vocabulary: int) -> tuple[list[list[int]], list[list[int]]]:
    randomly = random.Random(1)

    def some(count: int) -> list[int]:
        return [randomly.randrange(3, vocabulary) for _ in range(count)]

    return [some(prompt) for prompt, _ in LENGTHS], [some(completion) for _, completion in LENGTHS]


def by_hand(
    policy: models.LanguageModel, other: models.LanguageModel, prompt: list[int], completion: list[int]
) -> float:
    ids = torch.tensor([[*prompt, *completion]])
    with torch.no_grad():
        p, q = (model.model(ids).logits[0].double().log_softmax(-1) for model in (policy, other))
    at = slice(len(prompt) - 1, len(prompt) + len(completion) - 1)
    return float((p[at].exp() * (p[at] - q[at])).sum())


@pytest.mark.parametrize("elements", [1, 1 << 25])
def test_it_is_the_sum_over_the_vocabulary_at_every_token_of_the_answer(
    llama: Path, other_llama: Path, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the logits are cut into parts."""
    monkeypatch.setattr(logprobs, "_LOGITS_ELEMENTS", elements)
    policy, other = models.load_policy("candidate", llama), models.load_policy("policy", other_llama)
    prompts, completions = texts(policy.vocabulary)
    found = divergence.nats(policy, other, prompts, completions, Progress())
    expected = [by_hand(policy, other, *pair) for pair in zip(prompts, completions, strict=True)]
    assert found == pytest.approx(expected, rel=1e-4)
    assert min(found) > 0


def test_a_model_does_not_diverge_from_itself(llama: Path) -> None:
    policy = models.load_policy("candidate", llama)
    prompts, completions = texts(policy.vocabulary)
    assert divergence.nats(policy, policy, prompts, completions, Progress()) == pytest.approx(
        [0] * 4, abs=1e-6
    )


def test_models_of_different_vocabularies_cannot_be_compared(llama: Path) -> None:
    policy = models.load_policy("candidate", llama)
    other = replace(policy, vocabulary=policy.vocabulary + 8)
    with pytest.raises(InvalidModelError, match=r"Leave gates\.divergence out"):
        divergence.nats(policy, other, [[3]], [[4]], Progress())


def test_nats_a_token_weigh_answers_by_their_length() -> None:
    found = per_token([1.0, 9.0], [10, 10], 0.95, seed=0)
    assert (found.estimate, found.low, found.n) == (0.5, None, 2)
    found = per_token([0.1 * length for length in range(1, 30)], list(range(1, 30)), 0.95, seed=0)
    assert [found.estimate, found.low, found.high] == pytest.approx([0.1] * 3)
    assert per_token([float("nan")], [3], 0.95, seed=0).estimate is None
    assert per_token([], [], 0.95, seed=0).estimate is None


@pytest.fixture
def loop(tmp_path: Path, llama: Path, other_llama: Path, reward: Path) -> Loop:
    return Loop(tmp_path, llama, other_llama, reward)


def evaluated(loop: Loop, roles: list[str], temperature: float = 1.0) -> Finished:
    made = loop.evaluate(initial=True)
    parameters = made.parameters.model_copy(update={"divergence": roles, "temperature": temperature})
    return loop.run(made.model_copy(update={"parameters": parameters}))


def test_the_stage_measures_it_from_each_model_that_is_asked_for(loop: Loop) -> None:
    found = evaluated(loop, ["policy", "initial"]).result.measurements
    near = found[DIVERGENCE]
    assert near.estimate is not None
    assert near.low is not None
    assert 0 < near.low < near.estimate
    assert found[DIVERGENCE_FROM_INITIAL] == near  # M_0 is the incumbent here


def test_it_is_of_answers_at_temperature_1_whatever_the_others_were_drawn_at(
    loop: Loop, tmp_path: Path
) -> None:
    """The answers for the other measurements are greedy here, and all but empty of choice."""
    warm = evaluated(loop, ["policy"]).result.measurements[DIVERGENCE]
    elsewhere = Loop(tmp_path / "cold", loop.policy, loop.candidate, loop.reward)
    cold = evaluated(elsewhere, ["policy"], temperature=0.01).result.measurements[DIVERGENCE]
    assert cold == warm


def test_nobody_asked_and_nothing_is_measured(loop: Loop) -> None:
    assert DIVERGENCE not in evaluated(loop, []).result.measurements

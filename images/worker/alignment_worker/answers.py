"""One checkpoint answers the gold set and the held-out prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignment_api import digests
from alignment_api.stage import EvaluateParameters
from alignment_worker import graders, models, prompts
from alignment_worker.generate import Completion, Decoding, generate
from alignment_worker.logprobs import log_probs
from alignment_worker.models import LanguageModel
from alignment_worker.progress import Progress
from alignment_worker.rows import Row


@dataclass(frozen=True)
class Answers:
    """What one checkpoint said. Everything is in the order of the rows."""

    gold_texts: list[list[str]]  # items × samples
    gold_right: list[list[bool]]
    held_out: list[Completion]  # one a prompt
    held_out_texts: list[str]
    dependence: list[
        float
    ]  # log p(y given x) − log p(y given another prompt), nats; empty if there is no other


@dataclass(frozen=True)
class Questions:
    """What every checkpoint is asked. `others[i]` is the other prompt that answer i is set against.

    `of_itself`: candidate and incumbent are one model, whose sampled gold answers would else be drawn alike.
    """

    gold: Sequence[Row]
    held_out: Sequence[Row]
    gold_file: Path
    held_out_file: Path
    others: Sequence[int]
    parameters: EvaluateParameters
    python: bool  # whether the grader Python may run gold answers
    seed: int
    of_itself: bool = False


def answer(
    role: str, folder: Path, questions: Questions, known: list[list[str]] | None, progress: Progress
) -> Answers:
    """Gold answers as the gold set's parameters say, or those that are `known`; held-out answers sampled once a prompt.

    Held-out draws differ by role: a checkpoint that is compared with itself answers twice. Raises InvalidModelError,
    InvalidRowError, and as `graders.all_right`.
    """
    policy = models.load_policy(role, folder)
    gold = _gold(policy, questions, role, progress) if known is None else known
    ids = held_out_ids(policy, questions)
    parameters = questions.parameters
    held_out = drawn(
        policy,
        ids,
        questions,
        role,
        temperature=parameters.temperature,
        top_p=parameters.top_p,
        progress=progress,
    )
    texts = prompts.decode(policy.tokenizer, [completion.ids for completion in held_out])
    right = _right(questions, gold)
    return Answers(gold, right, held_out, texts, _dependence(policy, ids, held_out, questions.others))


def held_out_ids(policy: LanguageModel, questions: Questions) -> list[list[int]]:
    """The held-out prompts as tokens. Raises InvalidModelError, InvalidRowError."""
    return prompts.encode_rows(
        policy.tokenizer,
        questions.held_out,
        questions.held_out_file,
        policy.max_positions,
        policy.vocabulary,
    )


def drawn(
    policy: LanguageModel,
    ids: Sequence[list[int]],
    questions: Questions,
    role: str,
    *,
    temperature: float,
    top_p: float,
    progress: Progress,
) -> list[Completion]:
    """An answer to each held-out prompt."""
    decoding = Decoding(
        samples=1,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=questions.parameters.held_out_prompts.max_new_tokens,
        seed=_seed(questions.seed, role),
        entropies=True,
    )
    keys = [row.number for row in questions.held_out]
    return [only for (only,) in generate(policy, ids, keys, decoding, progress)]


def others(held_out: Sequence[Row], seed: int) -> list[int]:
    """For each prompt another one, each about as often; empty if all prompts are the same."""
    order = list(range(len(held_out)))
    random.Random(seed).shuffle(order)  # noqa: S311 - a draw, not a secret
    found = [0] * len(order)
    for place, index in enumerate(order):
        further = (order[(place + step) % len(order)] for step in range(1, len(order)))
        other = next((o for o in further if held_out[o].prompt != held_out[index].prompt), None)
        if other is None:
            return []
        found[index] = other
    return found


def _gold(policy: LanguageModel, questions: Questions, role: str, progress: Progress) -> list[list[str]]:
    gold_set = questions.parameters.gold_set
    decoding = Decoding(
        samples=gold_set.samples_per_item,
        temperature=gold_set.temperature,
        top_p=1.0,
        max_new_tokens=gold_set.max_new_tokens,
        seed=_seed(questions.seed, role) if questions.of_itself else questions.seed,
    )
    ids = prompts.encode_rows(
        policy.tokenizer, questions.gold, questions.gold_file, policy.max_positions, policy.vocabulary
    )
    completions = generate(policy, ids, [row.number for row in questions.gold], decoding, progress)
    flat = iter(prompts.decode(policy.tokenizer, [one.ids for some in completions for one in some]))
    return [[next(flat) for _ in some] for some in completions]


def _right(questions: Questions, gold: Sequence[Sequence[str]]) -> list[list[bool]]:
    asked = [
        (row.grader or "", row.answer or "", text)
        for row, said in zip(questions.gold, gold, strict=True)
        for text in said
    ]
    right = iter(graders.all_right(asked, python=questions.python))
    return [[next(right) for _ in said] for said in gold]


def _dependence(
    policy: LanguageModel, ids: Sequence[list[int]], held_out: Sequence[Completion], other: Sequence[int]
) -> list[float]:
    if not other:
        return []
    against = log_probs(policy, [ids[index] for index in other], [completion.ids for completion in held_out])
    return [sum(own.log_probs) - sum(value) for own, value in zip(held_out, against, strict=True)]


def _seed(seed: int, role: str) -> int:
    return int(digests.short(digests.of_json([seed, role]), 15), 16)

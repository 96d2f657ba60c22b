"""What PPO learns from: prompts in their order, completions of the policy as it is now, and the judge's scores.

Nothing here has a state: what a batch asks and draws follows from the seeds and the batch's number, so that a training
that goes on from a checkpoint sees what it would have seen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alignment_api.stage import TrainParameters
from alignment_worker import drawing, models, prompts
from alignment_worker.drawing import Asked
from alignment_worker.failures import NoPromptsError
from alignment_worker.generate import Completion, Decoding, generate
from alignment_worker.inputs import Inputs
from alignment_worker.models import LanguageModel, Vocabulary
from alignment_worker.rows import Row
from alignment_worker.scoring import Question, Scorer


@dataclass(frozen=True)
class Pool:
    """The prompts that are sampled on, with their token ids and where they are from, and what became of the others."""

    rows: list[Row]
    ids: list[list[int]]
    where: str
    left_out: dict[str, int]

    @property
    def counts(self) -> dict[str, int]:
        return {"prompts": len(self.rows), **self.left_out}


@dataclass(frozen=True)
class Episode:
    """One completion. `prompt` and `completion.ids` one behind the other are what the policy read and wrote."""

    prompt: list[int]
    completion: Completion
    score: float


def pool(inputs: Inputs, parameters: TrainParameters, known: Vocabulary) -> Pool:
    """A prompt has to leave room for maxNewTokens within maxLength: no completion is ever cut to fit.

    Raises NoPromptsError if none is left, InvalidRowError, InvalidModelError, TooManyCategoriesError.
    """
    online = parameters.online
    assert online is not None
    longest = models.longest(parameters.training.max_length, known.max_positions)
    limit = longest - online.sampling.max_new_tokens
    asked = Asked(online.per_iteration, online.spread == "Clusters", online.sampling.seed or 0)
    drawn = drawing.drawn(inputs, asked, known, limit)
    kept = [(row, ids) for row, ids in zip(drawn.rows, drawn.ids, strict=True) if len(ids) <= limit]
    if not kept:
        raise NoPromptsError(
            f"{drawing.source(inputs)}: all {len(drawn.rows)} prompts are longer than {limit} tokens, which is "
            f"{longest} (spec.training.maxLength, or the model's own limit) less {online.sampling.max_new_tokens} "
            "(spec.sampling.maxNewTokens). Raise the first or lower the second."
        )
    kept_rows, ids = zip(*kept, strict=True)
    too_long = len(drawn.rows) - len(kept) + drawn.counts.get("droppedTooLong", 0)
    left_out = drawn.counts | {"droppedTooLong": too_long}
    return Pool(list(kept_rows), list(ids), drawing.where(inputs), left_out)


def order(batch: int, size: int, count: int, seed: int) -> list[int]:
    """Which of `count` prompts the batch asks: all of them once, shuffled, then all again in another order."""
    places = range(batch * size, (batch + 1) * size)
    passes = {number: _shuffled(count, f"{seed}/{number}") for number in {place // count for place in places}}
    return [passes[place // count][place % count] for place in places]


def _shuffled(count: int, seed: str) -> list[int]:
    return random.Random(seed).sample(range(count), count)  # noqa: S311 - a draw, not a secret


class Rollouts:
    """Batches of completions, sampling.completionsPerPrompt of each prompt."""

    def __init__(self, pool_: Pool, parameters: TrainParameters, judge: Scorer) -> None:
        assert parameters.online is not None
        sampling, training = parameters.online.sampling, parameters.training
        episodes = training.per_device_batch_size * training.gradient_accumulation_steps
        self._size = episodes // sampling.completions_per_prompt
        self._pool, self._judge, self._seed = pool_, judge, training.seed
        self._decoding = Decoding(
            samples=sampling.completions_per_prompt,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_new_tokens,
            seed=sampling.seed or 0,
        )

    def sampled(self, batch: int, policy: LanguageModel) -> list[tuple[int, Completion]]:
        """The place in the pool of each completion's prompt, and the completion. Raises InvalidModelError."""
        asked = order(batch, self._size, len(self._pool.rows), self._seed)
        keys = range(batch * self._size, (batch + 1) * self._size)  # a prompt that returns is answered anew
        found = generate(policy, [self._pool.ids[place] for place in asked], keys, self._decoding)
        return [(place, one) for place, several in zip(asked, found, strict=True) for one in several]

    def scored(self, sampled: Sequence[tuple[int, Completion]], tokenizer: Any) -> list[Episode]:
        """Raises InvalidRowError, InvalidModelError."""
        texts = prompts.decode(tokenizer, [completion.ids for _, completion in sampled])
        asked = [self._pool.rows[place] for place, _ in sampled]
        questions = [
            Question(f"{self._pool.where} {row.number}", row.prompt, text, row.answer, row.grader)
            for row, text in zip(asked, texts, strict=True)
        ]
        return [
            Episode(self._pool.ids[place], completion, score)
            for (place, completion), score in zip(sampled, self._judge.scores(questions), strict=True)
        ]

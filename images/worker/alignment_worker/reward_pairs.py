"""The pairs of a reward model's training: as its judge will read them, and which prompts are held out of it.

A pair is never truncated: one that is too long is dropped and counted, and so is one whose answers are the same tokens,
or whose prompt is a gold or held-out prompt.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alignment_api import digests
from alignment_api.stage import RewardParameters
from alignment_worker import exclusion, prompts, rows, scoring, unseen
from alignment_worker.artifacts import PAIRS
from alignment_worker.failures import TooFewPairsError
from alignment_worker.inputs import Inputs
from alignment_worker.rows import Pair, Preference
from alignment_worker.scoring import Question
from alignment_worker.train_columns import Rows

_HELD_OUT_SHARE = 4  # a quarter of the prompts is held out, and no more than unseen.MOST


@dataclass(frozen=True)
class ReadPair:
    """Token ids of prompt and answer as one text, as `prompts.encode_answered` makes them."""

    chosen: list[int]
    rejected: list[int]
    questions: tuple[Question, Question]
    prompt_tokens: int
    mark: str  # of the prompt

    @property
    def length(self) -> int:
        """Tokens of the longer of the two sequences."""
        return max(len(self.chosen), len(self.rejected))

    @property
    def answer_tokens(self) -> tuple[int, int]:
        return len(self.chosen) - self.prompt_tokens, len(self.rejected) - self.prompt_tokens


@dataclass(frozen=True)
class RewardPairs:
    """What is trained on, what is measured on (the newest pair of each held-out prompt), and what was dropped."""

    trained: list[ReadPair]
    held_out: list[ReadPair]
    dropped: Counter[str]
    given: int

    def rows(self) -> Rows:
        """What is trained on: a row for each pair."""
        names = ("droppedTooLong", "droppedLeaked", "droppedTies", "droppedUnpaired")
        return Rows(
            {
                "chosen_ids": [pair.chosen for pair in self.trained],
                "rejected_ids": [pair.rejected for pair in self.trained],
            },
            [2 * pair.length for pair in self.trained],
            {
                "pairs": len(self.trained),
                "heldOutPairs": len(self.held_out),
                "rowsGiven": self.given,
                **{name: self.dropped[name] for name in names},
            },
        )


def gather(
    inputs: Inputs,
    parameters: RewardParameters,
    tokenizer: Any,
    limit: int,
    embeddings: int,
    seen: Collection[str],
) -> RewardPairs:
    """All pairs of the datasets of at most `limit` tokens, for a model that knows `embeddings` tokens.

    `seen`: marks of prompts that the model was trained on before; they are not held out.
    Raises TooFewPairsError, ContaminatedError, InvalidRowError, InvalidModelError, and what `Inputs.file` raises.
    """
    dropped: Counter[str] = Counter()
    forbidden = exclusion.forbidden(inputs)
    found: list[ReadPair] = []
    given = {role: list(rows.read_preferences(inputs.file(role, PAIRS))) for role in inputs.roles("dataset")}
    for pair, where in _drawn(inputs, given, parameters, forbidden, dropped):
        read = _read(tokenizer, pair, where, embeddings)
        if read.length > limit:
            dropped["droppedTooLong"] += 1
        elif read.chosen == read.rejected:
            dropped["droppedTies"] += 1
        else:
            found.append(read)
    if parameters.refuse_leaked:
        exclusion.refuse(dropped["droppedLeaked"], sum(map(len, given.values())))
    least = parameters.reward.min_pairs
    if len(found) < least:
        read_in_all = len(found) + dropped.total()
        singles = dropped["droppedUnpaired"]
        unpaired = f", {singles} are unpaired rows, which no reward model is trained on" if singles else ""
        raise TooFewPairsError(
            f"spec.reward.minPairs: {least}: only {len(found)} pairs can be trained on. Of {read_in_all} "
            f"that were read, {dropped['droppedTooLong']} are longer than {limit} tokens (spec.training.maxLength, or "
            f"the model's own limit), {dropped['droppedLeaked']} ask a gold or held-out prompt, "
            f"{dropped['droppedTies']} have two answers of the same tokens{unpaired}. Give more pairs in "
            "spec.datasets, or lower minPairs."
        )
    trained, held_out = _split(found, parameters.training.seed, seen)
    return RewardPairs(trained, held_out, dropped, sum(map(len, given.values())))


def _drawn(
    inputs: Inputs,
    given: Mapping[str, list[Preference]],
    parameters: RewardParameters,
    forbidden: exclusion.Forbidden,
    dropped: Counter[str],
) -> Iterator[tuple[Pair, str]]:
    """In the order of the datasets' rows, at most so many of each as the user wants."""
    wanted = {reference.name: reference.max_pairs for reference in parameters.datasets}
    for role, read in given.items():
        name, file = role.partition("/")[2], inputs.file(role, PAIRS)
        there = [row for row in read if isinstance(row, Pair)]
        dropped["droppedUnpaired"] += len(read) - len(there)
        allowed = exclusion.allowed(there, forbidden)
        clean = [pair for pair, use in zip(there, allowed, strict=True) if use]
        dropped["droppedLeaked"] += len(there) - len(clean)
        most = min(wanted.get(name) or len(clean), len(clean))
        chosen = random.Random(f"{parameters.training.seed} {name}").sample(range(len(clean)), most)  # noqa: S311
        yield from (
            (clean[index], f"{file}: {rows.where(file)} {clean[index].number}") for index in sorted(chosen)
        )


def _read(tokenizer: Any, pair: Pair, where: str, embeddings: int) -> ReadPair:
    both = unseen.questions(pair, where)
    chosen, rejected = (scoring.encode(tokenizer, question) for question in both)
    prompts.check_embeddings(f"{where}: the pair", tokenizer, chosen + rejected, embeddings)
    asked = len(prompts.encode(tokenizer, both[0].prompt))
    return ReadPair(chosen, rejected, both, asked, unseen.mark(pair.prompt))


def _split(
    found: Sequence[ReadPair], seed: int, seen: Collection[str]
) -> tuple[list[ReadPair], list[ReadPair]]:
    """What is trained on, and what is held out: prompts by seed and text alone, so that more pairs change little."""
    marks = {pair.mark for pair in found}
    if len(marks) < 2:
        raise TooFewPairsError(
            f"All {len(found)} pairs ask the same prompt. Accuracy is measured on prompts that are held out of the "
            "training, so give pairs of several prompts in spec.datasets."
        )
    fresh = sorted(marks - set(seen), key=lambda mark: digests.of_json([seed, mark]))
    if not fresh:
        raise TooFewPairsError(
            f"spec.reward.model: it was trained on all {len(marks)} prompts of spec.datasets, and none is left to "
            "measure it on. Give newer pairs, or a model that was not trained on these."
        )
    held_out = set(fresh[: max(1, min(unseen.MOST, len(marks) // _HELD_OUT_SHARE))])
    newest = {pair.mark: pair for pair in found if pair.mark in held_out}
    trained = [pair for pair in found if pair.mark not in held_out]
    return trained, list(newest.values())

"""The pairs to train on, as tokens: what was sampled stays as it was, what nobody sampled is tokenised once.

A pair is never truncated: one that is too long is dropped and counted, and so is a dataset's pair whose prompt is a
gold or held-out prompt. For BestOfN only the chosen answers count: of this iteration's prompts the best ones, whether
or not they made a pair.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alignment_api.stage import TrainParameters
from alignment_worker import exclusion, prompts, rows
from alignment_worker.artifacts import BEST, PAIRS
from alignment_worker.failures import InvalidRowError, TooFewPairsError
from alignment_worker.inputs import Inputs
from alignment_worker.rows import Pair, Prompt

LEAST = 2  # one pair is learned by heart, and shows nothing of a preference
_TEMPLATE_TAIL = 2  # tokens that templates write behind EOS: a line break, mostly


@dataclass(frozen=True)
class TokenPair:
    """Token ids; prompt and completion one behind the other are what the model reads.

    `rejected` is empty for BestOfN.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def length(self) -> int:
        """Tokens of the longer of the two sequences."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True)
class Gathered:
    """The pairs, those of this iteration's own sampling first, and what became of the others."""

    on_policy: list[TokenPair]
    from_datasets: list[TokenPair]
    read: int
    too_long: int
    leaked: int

    @property
    def pairs(self) -> list[TokenPair]:
        return self.on_policy + self.from_datasets

    def counts(self, what: str = "pairs") -> dict[str, int]:
        return {
            what: len(self.pairs),
            f"{what}OnPolicy": len(self.on_policy),
            f"{what}FromDatasets": len(self.from_datasets),
            "droppedTooLong": self.too_long,
            "droppedLeaked": self.leaked,
        }


def gather(
    inputs: Inputs,
    parameters: TrainParameters,
    tokenizer: Any,
    eos_ids: Collection[int],
    limit: int,
    embeddings: int,
) -> Gathered:
    """All pairs of at most `limit` tokens, for a model that knows `embeddings` tokens.

    Raises TooFewPairsError if none is left, InvalidRowError, InvalidModelError, and what `Inputs.file` raises.
    """
    only_chosen = parameters.training.method == "BestOfN"
    sampled = _sampled(inputs, BEST if only_chosen else PAIRS)
    on_policy = [pair for pair in sampled if pair.length <= limit]
    read, too_long, leaked = len(sampled), len(sampled) - len(on_policy), 0
    forbidden = exclusion.forbidden(inputs)
    wanted = {reference.name: reference.max_pairs for reference in parameters.datasets}
    drawn: list[TokenPair] = []
    for role in inputs.roles("dataset"):
        name = role.partition("/")[2]
        file = inputs.file(role, PAIRS)
        found = list(rows.read_pairs(file))
        read += len(found)
        allowed = exclusion.allowed((pair.prompt for pair in found), forbidden)
        clean = [pair for pair, use in zip(found, allowed, strict=True) if use]
        leaked += len(found) - len(clean)
        most = wanted.get(name) or len(clean)
        order = random.Random(f"{parameters.training.seed} {name}").sample(range(len(clean)), len(clean))  # noqa: S311
        shuffled = (clean[index] for index in order)
        tokens = _tokens(shuffled, file, tokenizer, eos_ids, embeddings)
        kept, skipped = _fitting(
            (replace(pair, rejected=[]) for pair in tokens) if only_chosen else tokens, limit, most
        )
        drawn += kept
        too_long += skipped
    gathered = Gathered(on_policy, drawn, read, too_long, leaked)
    if len(gathered.pairs) < LEAST:
        what = "best answers" if only_chosen else "pairs"
        left = "nothing" if not gathered.pairs else "only one of them"
        raise TooFewPairsError(
            f"There is {left} to train on: {read} {what} were read, {too_long} are longer than {limit} tokens "
            f"(spec.training.maxLength, or the model's own limit), {leaked} ask a gold or held-out prompt. "
            + (f"Raise maxLength, or give shorter {what}." if too_long else "Give more prompts or pairs.")
        )
    return gathered


def tokenised(tokenizer: Any, pair: Pair, eos_ids: Collection[int]) -> TokenPair:
    """A pair that nobody sampled. Raises InvalidRowError, InvalidModelError."""
    prompt = prompts.encode(tokenizer, pair.prompt)
    chosen, rejected = (
        _completion(tokenizer, pair.prompt, prompt, answer, eos_ids)
        for answer in (pair.chosen, pair.rejected)
    )
    return TokenPair(prompt, chosen, rejected)


def _sampled(inputs: Inputs, name: str) -> list[TokenPair]:
    if "pairs" not in inputs:
        return []
    return [
        TokenPair(row["prompt_ids"], row["chosen_ids"], row.get("rejected_ids", []))
        for row in rows.load(inputs.file("pairs", name))
    ]


def _tokens(
    pairs: Iterator[Pair], file: Path, tokenizer: Any, eos_ids: Collection[int], embeddings: int
) -> Iterator[TokenPair]:
    for pair in pairs:
        where = f"{file}: {rows.where(file)} {pair.number}"
        try:
            tokens = tokenised(tokenizer, pair, eos_ids)
        except InvalidRowError as error:
            raise InvalidRowError(f"{where}: {error}") from error
        ids = tokens.prompt + tokens.chosen + tokens.rejected
        prompts.check_embeddings(f"{where}: the pair", tokenizer, ids, embeddings)
        yield tokens


def _fitting(pairs: Iterator[TokenPair], limit: int, most: int) -> tuple[list[TokenPair], int]:
    """The first `most` that are no longer than `limit` tokens, and how many were longer."""
    kept: list[TokenPair] = []
    too_long = 0
    for pair in pairs:
        if len(kept) == most:
            break
        if pair.length <= limit:
            kept.append(pair)
        else:
            too_long += 1
    return kept, too_long


def _completion(
    tokenizer: Any, prompt: Prompt, prompt_ids: list[int], answer: Prompt, eos_ids: Collection[int]
) -> list[int]:
    """What follows the prompt's tokens, up to and with one EOS.

    Prompt and answer are tokenised as one text, as in TRL, so that no tokenizer's word-start mark gets between them;
    where that changes the prompt's own tokens, the model would not be asked so, and the answer is tokenised alone.
    """
    whole, text = _whole(tokenizer, prompt, answer)
    if whole[: len(prompt_ids)] == prompt_ids and len(whole) > len(prompt_ids):
        return _ended(whole[len(prompt_ids) :], tokenizer, eos_ids)
    if not isinstance(answer, str) and len(answer) > 1:
        raise InvalidRowError(
            "the chat template writes the prompt in another way when several messages follow it"
        )
    return prompts.encode_completion(tokenizer, text, eos=True)


def _whole(tokenizer: Any, prompt: Prompt, answer: Prompt) -> tuple[list[int], str]:
    """Token ids of prompt and answer, and the text of the answer's last message."""
    if isinstance(prompt, str):
        assert isinstance(answer, str)  # rows.pair_of refuses messages behind a string
        return prompts.encode(tokenizer, prompt + answer), answer
    if isinstance(answer, str):
        return prompts.encode_answered(tokenizer, prompt, answer), answer
    text = answer[-1]["content"]
    return prompts.encode_answered(tokenizer, [*prompt, *answer[:-1]], text), text


def _ended(ids: list[int], tokenizer: Any, eos_ids: Collection[int]) -> list[int]:
    """Sampling stops at EOS, so what a template writes behind it is left out."""
    ends = [position for position, token in enumerate(ids) if token in eos_ids]
    if ends and len(ids) - ends[-1] <= 1 + _TEMPLATE_TAIL:
        return ids[: ends[-1] + 1]
    return ids if tokenizer.eos_token_id is None else [*ids, tokenizer.eos_token_id]

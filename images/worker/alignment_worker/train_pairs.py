"""The pairs to train on, as tokens: what was sampled stays as it was, what nobody sampled is tokenised once.

A pair is never truncated: one that is too long is dropped and counted, and so is a dataset's pair whose prompt is a
gold or held-out prompt, or that the start has learned from already. For BestOfN only the chosen answers count: of this
iteration's prompts the best ones, whether or not they made a pair. KTO learns from unpaired rows as well, and they are
drawn as pairs are; the other methods need pairs, and count the unpaired rows that they pass over.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignment_api.cycle import DatasetReference, Training
from alignment_api.stage import TrainParameters
from alignment_worker import exclusion, prompts, rows, train_rows
from alignment_worker.artifacts import BEST, PAIRS
from alignment_worker.failures import InvalidRowError, TooFewPairsError
from alignment_worker.inputs import Inputs
from alignment_worker.rows import Pair, Preference, Prompt, Unpaired
from alignment_worker.train_reference import Tokens
from alignment_worker.train_rows import Origin

LEAST = 2  # one pair is learned by heart, and shows nothing of a preference
_TEMPLATE_TAIL = 2  # tokens that templates write behind EOS: a line break, mostly


@dataclass(frozen=True)
class TokenPair:
    """Token ids; prompt and completion one behind the other are what the model reads.

    `log_probs` are the reference's, where it is the model that the pair was sampled from. `rejected` is empty for
    BestOfN. Of an unpaired row there is only `chosen` or only `rejected`.
    """

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    log_probs: Tokens | None = None
    origin: Origin | None = field(default=None, compare=False)

    @property
    def length(self) -> int:
        """Tokens of the longer of the two sequences."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))

    @property
    def is_pair(self) -> bool:
        return bool(self.chosen and self.rejected)


@dataclass(frozen=True)
class Dropped:
    """Rows that are not trained on, by reason; those that were not drawn are none of them."""

    too_long: int = 0
    leaked: int = 0
    learned: int = 0
    unpaired: int = 0
    ties: int = 0
    shortest: int | None = None  # tokens of what is too long

    def __add__(self, other: Dropped) -> Dropped:
        return Dropped(
            self.too_long + other.too_long,
            self.leaked + other.leaked,
            self.learned + other.learned,
            self.unpaired + other.unpaired,
            self.ties + other.ties,
            min(filter(None, (self.shortest, other.shortest)), default=None),
        )


@dataclass(frozen=True)
class Gathered:
    """The pairs and unpaired rows, those of this iteration's own sampling first, and what became of the others.

    `learned` names the rows of the datasets, as they are now, that the start's lineage was trained on. `sampled` counts
    what judging made, None if nothing was judged; `given` the datasets' rows.
    """

    on_policy: list[TokenPair]
    from_datasets: list[TokenPair]
    read: int
    dropped: Dropped = Dropped()
    learned: frozenset[str] = frozenset()
    sampled: int | None = None
    given: int = 0

    @property
    def pairs(self) -> list[TokenPair]:
        return self.on_policy + self.from_datasets

    @property
    def origins(self) -> list[Origin]:
        return [pair.origin for pair in self.pairs if pair.origin]

    def counts(self, what: str = "pairs") -> dict[str, int]:
        return {
            what: len(self.pairs),
            f"{what}OnPolicy": len(self.on_policy),
            f"{what}FromDatasets": len(self.from_datasets),
            "rowsGiven": self.given,
            "droppedTooLong": self.dropped.too_long,
            "droppedLeaked": self.dropped.leaked,
            "droppedLearned": self.dropped.learned,
            "droppedUnpaired": self.dropped.unpaired,
            "droppedTies": self.dropped.ties,
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

    Raises TooFewPairsError if none is left, ContaminatedError, InvalidRowError, InvalidModelError, and what
    `Inputs.file` raises.
    """
    sampled = _sampled(inputs, parameters)
    distinct = [pair for pair in sampled if pair.chosen != pair.rejected]
    on_policy = [pair for pair in distinct if pair.length <= limit]
    wanted = {reference.name: reference for reference in parameters.datasets}
    source = _Datasets(inputs, parameters.training, tokenizer, eos_ids, limit, embeddings)
    for role in inputs.roles("dataset"):
        source.draw(role, wanted.get(role.partition("/")[2]), len(on_policy))
    if parameters.refuse_leaked:
        exclusion.refuse(source.dropped.leaked, source.read + source.dropped.unpaired)
    gathered = Gathered(
        on_policy,
        source.drawn,
        read=len(sampled) + source.read,
        dropped=source.dropped
        + Dropped(
            too_long=len(distinct) - len(on_policy),
            ties=len(sampled) - len(distinct),
            shortest=min((pair.length for pair in distinct if pair.length > limit), default=None),
        ),
        learned=frozenset(source.learned_there),
        sampled=len(sampled) if "pairs" in inputs else None,
        given=source.read + source.dropped.unpaired,
    )
    if len(gathered.pairs) < LEAST:
        raise _too_few(gathered, limit, parameters)
    return gathered


class _Datasets:
    """Draws from the datasets, one after the other."""

    def __init__(
        self,
        inputs: Inputs,
        training: Training,
        tokenizer: Any,
        eos_ids: Collection[int],
        limit: int,
        embeddings: int,
    ) -> None:
        self._inputs = inputs
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._limit = limit
        self._embeddings = embeddings
        self._seed = training.seed
        self._only_chosen = training.method == "BestOfN"
        self._takes_unpaired = training.method == "KTO"
        self._forbidden = exclusion.forbidden(inputs)
        self._learned = train_rows.learned(inputs.path("start")) if "start" in inputs else frozenset()
        self.drawn: list[TokenPair] = []
        self.learned_there: list[str] = []
        self.read = 0
        self.dropped = Dropped()

    def draw(self, role: str, wanted: DatasetReference | None, on_policy: int) -> None:
        """Without replacement, by the seed."""
        name, file = role.partition("/")[2], self._inputs.file(role, PAIRS)
        there = list(rows.read_preferences(file))
        found = there if self._takes_unpaired else [row for row in there if isinstance(row, Pair)]
        self.read += len(found)
        allowed = exclusion.allowed(found, self._forbidden)
        clean = [row for row, use in zip(found, allowed, strict=True) if use]
        keys = [train_rows.key_of(row) for row in clean]
        # One that this method passes over was learned from all the same.
        self.learned_there += [key for key in map(train_rows.key_of, there) if key in self._learned]
        new = [row for row, key in zip(clean, keys, strict=True) if key not in self._learned]
        self.dropped += Dropped(
            leaked=len(found) - len(clean), learned=len(clean) - len(new), unpaired=len(there) - len(found)
        )
        order = random.Random(f"{self._seed} {name}").sample(range(len(new)), len(new))  # noqa: S311
        revision = self._inputs.digests.get(role, "")
        self._fill((new[index] for index in order), file, name, revision, _most(wanted, on_policy, len(new)))

    def _fill(self, found: Iterator[Preference], file: Path, name: str, revision: str, most: int) -> None:
        """With the first `most` that are not too long."""
        last = len(self.drawn) + most
        for row in found:
            if len(self.drawn) == last:
                break
            where = f"{file}: {rows.where(file)} {row.number}"
            try:
                tokens = tokenised(self._tokenizer, row, self._eos_ids)
            except InvalidRowError as error:
                raise InvalidRowError(f"{where}: {error}") from error
            ids = tokens.prompt + tokens.chosen + tokens.rejected
            what = "pair" if isinstance(row, Pair) else "row"
            prompts.check_embeddings(f"{where}: the {what}", self._tokenizer, ids, self._embeddings)
            rejected = [] if self._only_chosen else tokens.rejected
            origin = Origin.in_dataset(name, revision, row)
            drawn = TokenPair(tokens.prompt, tokens.chosen, rejected, origin=origin)
            if drawn.chosen == drawn.rejected:  # of two texts: a template may trim them
                self.dropped += Dropped(ties=1)
            elif drawn.length > self._limit:
                self.dropped += Dropped(too_long=1, shortest=drawn.length)
            else:
                self.drawn.append(drawn)


def _most(wanted: DatasetReference | None, on_policy: int, there: int) -> int:
    """How many of the rows that are there are drawn."""
    if wanted is None:
        return there
    of_weight = there if wanted.weight is None else round(wanted.weight * on_policy)
    return min(there, of_weight, wanted.max_pairs or there)


def _too_few(gathered: Gathered, limit: int, parameters: TrainParameters) -> TooFewPairsError:
    what = {"BestOfN": "best answers", "KTO": "pairs and unpaired rows"}.get(
        parameters.training.method, "pairs"
    )
    left = "only one row" if gathered.pairs else "nothing"
    dropped = gathered.dropped
    remedy = "Give more prompts or pairs."
    if dropped.too_long:
        remedy = (
            f"Raise maxLength (the shortest of them has {dropped.shortest} tokens), or give shorter {what}."
        )
    learned = weights = unpaired = ties = ""
    if dropped.learned:
        learned = f", {dropped.learned} were trained on already by what the start has come from"
        remedy += " With spec.policy.start Initial all of a dataset is used again."
    if dropped.unpaired:
        unpaired = f" The {dropped.unpaired} unpaired rows of the datasets are for spec.training.method KTO."
    if dropped.ties:
        ties = f", {dropped.ties} have two answers of the same tokens"
    if gathered.sampled == 0:
        remedy += (
            " Judging made none of them: the counts ties and tooClose of stage judge say how many answers were equal, "
            "or closer than spec.judge.minMargin."
        )
    if not gathered.on_policy and any(each.weight for each in parameters.datasets):
        weights = " No sampled pair is left, so none is drawn from datasets with a weight."
    return TooFewPairsError(
        f"There is {left} to train on: {gathered.read} {what} were read, {dropped.too_long} are longer than {limit} "
        f"tokens (spec.training.maxLength, or the model's own limit), {dropped.leaked} ask a gold or held-out "
        f"prompt{learned}{ties}.{unpaired}{weights} {remedy}"
    )


def tokenised(tokenizer: Any, row: Preference, eos_ids: Collection[int]) -> TokenPair:
    """What nobody sampled. Raises InvalidRowError, InvalidModelError."""
    prompt = prompts.encode(tokenizer, row.prompt)

    def ids(answer: Prompt) -> list[int]:
        return _completion(tokenizer, row.prompt, prompt, answer, eos_ids)

    if isinstance(row, Unpaired):
        completion = ids(row.completion)
        return TokenPair(prompt, completion, []) if row.label else TokenPair(prompt, [], completion)
    return TokenPair(prompt, ids(row.chosen), ids(row.rejected))


def _sampled(inputs: Inputs, parameters: TrainParameters) -> list[TokenPair]:
    """The judge's pairs, none without it; with log-probabilities if the reference is the model that was sampled."""
    if "pairs" not in inputs:
        return []
    name = BEST if parameters.training.method == "BestOfN" else PAIRS
    by = parameters.sampled_by
    recorded = by is not None and by == inputs.digests.get("reference")
    return [_as_sampled(row, recorded=recorded) for row in rows.stream(inputs.file("pairs", name))]


def _as_sampled(row: dict[str, Any], *, recorded: bool) -> TokenPair:
    log_probs = None
    if recorded and "chosen_log_probs" in row and "rejected_log_probs" in row:
        log_probs = array("f", row["chosen_log_probs"]), array("f", row["rejected_log_probs"])
    rejected = row.get("rejected_ids", [])
    return TokenPair(row["prompt_ids"], row["chosen_ids"], rejected, log_probs, Origin.in_samples(row))


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

"""Which prompts an iteration samples on: of a file, or of spec.datasets; never gold or held-out ones."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from alignment_worker import dataset_prompts, exclusion, prompts, rows
from alignment_worker.dataset_prompts import Drawn
from alignment_worker.failures import NoPromptsError
from alignment_worker.inputs import Inputs
from alignment_worker.models import Vocabulary
from alignment_worker.rows import Row

__all__ = ["DRAWN_COUNTS", "Asked", "Drawn", "drawn", "source", "where"]

# Of all prompts that are given, whoever's part of the draw it is.
DRAWN_COUNTS = ("promptsGiven", "excluded", "droppedTooLong", "droppedUnreadable")


@dataclass(frozen=True)
class Asked:
    """How many prompts are drawn without replacement (None: all), whether clusters take turns, by which seed."""

    count: int | None
    spread: bool
    seed: int


def drawn(inputs: Inputs, asked: Asked, known: Vocabulary, limit: int | None = None) -> Drawn:
    """In their order. `limit`: tokens that a prompt of a dataset has at most; None: what the model reads, less one.

    Raises NoPromptsError if there are none, InvalidRowError, InvalidModelError, TooManyCategoriesError, and as
    `dataset_prompts.drawn`.
    """
    forbidden = exclusion.forbidden(inputs)
    if dataset_prompts.given(inputs):
        if limit is None and known.max_positions is not None:
            limit = known.max_positions - 1
        return dataset_prompts.drawn(
            inputs, forbidden, known, limit, asked.count, asked.seed, spread=asked.spread
        )
    file = inputs.path("prompts")
    there = rows.read(file, inputs.kinds["prompts"])
    may = exclusion.allowed(there, forbidden)
    usable = [row for row, use in zip(there, may, strict=True) if use]
    if not usable:
        raise NoPromptsError(
            f"{file}: all {len(there)} prompts are in the gold set or among the held-out prompts too, as a whole or by "
            f"{exclusion.WORDS} words in a row, and these must not be trained on; give other prompts"
        )
    taken = _draw(usable, asked.count, asked.seed)
    ids = prompts.encode_rows(known.tokenizer, taken, file, known.max_positions, known.size)
    return Drawn(taken, ids, {"promptsGiven": len(there), "excluded": len(there) - len(usable)})


def source(inputs: Inputs) -> str:
    """Where the prompts come from, in a message."""
    return "the prompts of spec.datasets" if dataset_prompts.given(inputs) else str(inputs.path("prompts"))


def where(inputs: Inputs) -> str:
    """What a prompt's number stands behind in a message."""
    unit = "number" if dataset_prompts.given(inputs) else rows.where(inputs.path("prompts"))
    return f"{source(inputs)}: {unit}"


def _draw(usable: Sequence[Row], count: int | None, seed: int) -> list[Row]:
    """So many rows without replacement, in the file's order; all if there are no more."""
    if count is None or count >= len(usable):
        return list(usable)
    kept = sorted(random.Random(seed).sample(range(len(usable)), count))  # noqa: S311 - a draw, not a secret
    return [usable[index] for index in kept]

"""What a method trains on: columns of token ids, by the names that its trainer knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from alignment_worker import gang
from alignment_worker.progress import Progress
from alignment_worker.train_reference import Tokens

Row = Mapping[str, Any]
Batch = Sequence[int]


@dataclass(frozen=True)
class Rows:
    """`lengths` are the tokens that each row has in memory; `settings` those of the trainer that the rows ask for.

    `recorded` has the reference's log-probabilities, by row, of the pairs that bring them along.
    """

    columns: dict[str, list[Any]]
    lengths: list[int]
    counts: dict[str, int]
    settings: dict[str, Any] = field(default_factory=dict)
    recorded: dict[int, Tokens] = field(default_factory=dict)

    def tokens_at_once(self, batch_size: int) -> int:
        """Tokens of the largest batch, padding counted."""
        longest = sorted(self.lengths, reverse=True)[:batch_size]
        return len(longest) * longest[0]


def share(batches: Sequence[Batch], processes: int) -> list[Batch]:
    """What this process computes. Each has as many, for those of a divided model compute in step: one is done twice."""
    rounds = -(-len(batches) // processes)
    filled = [*batches, *(list(batches[-1:]) * (rounds * processes - len(batches)))]
    return filled[gang.rank() :: processes]


def with_reference(
    dataset: Dataset,
    names: Sequence[str],
    length: Callable[[Row], int],
    scored: Callable[[list[Row]], Sequence[list[float]]],
    batch_size: int,
    processes: int,
    progress: Progress,
) -> Dataset:
    """The dataset with a column for each of `names`: what `scored` says of its rows, a list for each name.

    Every process of a gang asks for its part. Longest first, so that padding wastes little, and a batch that is too
    large fails at once.
    """
    rows = list(dataset)
    order = sorted(range(len(rows)), key=lambda index: -length(rows[index]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    mine = share(batches, processes)
    found: dict[int, tuple[float, ...]] = {}
    progress.begin(sum(map(len, mine)), "rows", "reference log-probabilities")
    for batch in mine:
        values = scored([rows[index] for index in batch])
        found |= dict(zip(batch, zip(*values, strict=True), strict=True))
        progress.advance(len(batch))
    everything = {index: value for part in gang.gathered(found) for index, value in part.items()}
    columns = zip(*(everything[index] for index in range(len(rows))), strict=True)
    for name, column in zip(names, columns, strict=True):
        dataset = dataset.add_column(name, list(column))
    return dataset

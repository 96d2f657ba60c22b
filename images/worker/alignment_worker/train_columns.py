"""What a method trains on: columns of token ids, by the names that its trainer knows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from datasets import Dataset

from alignment_worker import gang
from alignment_worker.progress import Progress
from alignment_worker.train_reference import Tokens
from alignment_worker.train_rows import Origin

Row = Mapping[str, Any]
Batch = Sequence[int]
T = TypeVar("T")


@dataclass(frozen=True)
class Rows:
    """`lengths` are the tokens that each row has in memory; `settings` those of the trainer that the rows ask for.

    `recorded` has the reference's log-probabilities, by row, of the pairs that bring them along; `origins` says where
    what is trained on came from.
    """

    columns: dict[str, list[Any]]
    lengths: list[int]
    counts: dict[str, int]
    settings: dict[str, Any] = field(default_factory=dict)
    recorded: dict[int, Tokens] = field(default_factory=dict)
    origins: list[Origin] = field(default_factory=list)

    def tokens_at_once(self, batch_size: int) -> int:
        """Tokens of the largest batch, padding counted."""
        longest = sorted(self.lengths, reverse=True)[:batch_size]
        return len(longest) * longest[0]


def share(batches: Sequence[Batch], processes: int) -> list[Batch]:
    """What this process computes. Each has as many, for those of a divided model compute in step: one is done twice."""
    rounds = -(-len(batches) // processes)
    filled = [*batches, *(list(batches[-1:]) * (rounds * processes - len(batches)))]
    return filled[gang.rank() :: processes]


def scored(
    dataset: Dataset,
    some: Collection[int],
    lengths: Sequence[int],
    score: Callable[[list[Row]], Iterable[T]],
    batch_size: int,
    processes: int,
    progress: Progress,
) -> Iterator[tuple[int, T]]:
    """What `score` says of each of those rows of the dataset, which have `lengths` tokens: this process's part.

    Longest first, so that padding wastes little, and a batch that is too large fails at once.
    """
    order = sorted(some, key=lambda index: -lengths[index])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    mine = share(batches, processes)
    progress.begin(sum(map(len, mine)), "rows", "reference log-probabilities")
    for batch in mine:
        yield from zip(batch, score([dataset[index] for index in batch]), strict=True)
        progress.advance(len(batch))

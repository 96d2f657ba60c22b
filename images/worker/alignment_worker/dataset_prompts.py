"""The prompts of spec.datasets: those of the revisions that the iteration froze, as the roles prompts/NAME give them.

They are numbered through, from 1, in the order of spec.datasets. One that several datasets have counts once.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from alignment_worker import prompts, rows
from alignment_worker.artifacts import PROMPTS
from alignment_worker.exclusion import Forbidden
from alignment_worker.failures import InvalidConfigError, InvalidRowError, NoPromptsError
from alignment_worker.ingestion.identity import KEY_BYTES, prompt_key
from alignment_worker.inputs import PROMPTS_OF, Inputs
from alignment_worker.models import Vocabulary
from alignment_worker.rows import Row
from alignment_worker.store import DERIVED, SealedFolder

Numbers = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Drawn:
    """Prompts with their token ids, and the counts of those that were given and could not be taken."""

    rows: list[Row]
    ids: list[list[int]]
    counts: dict[str, int]


def given(inputs: Inputs) -> bool:
    return any(inputs.roles(PROMPTS_OF))


def each(inputs: Inputs) -> Iterator[Row]:
    """One that several datasets have comes as often. Raises DigestMismatchError, InputMissingError, InvalidRowError."""
    return (row for row, _, _ in _each(_files(inputs)))


def require_clusters(inputs: Inputs) -> None:
    """Raises InvalidConfigError for a dataset whose prompts are in none."""
    from alignment_worker.ingestion import vectors  # noqa: PLC0415 - loads pyarrow

    for role in inputs.roles(PROMPTS_OF):
        if not vectors.in_clusters(_derived(inputs, role)):
            name = role.partition("/")[2]
            raise InvalidConfigError(
                f"spec.prompts.spread: Clusters: the prompts of the dataset {name} are in none: give it "
                "curation.embedding, and refresh it (the annotation alignment.dev/run)"
            )


def drawn(
    inputs: Inputs,
    forbidden: Forbidden,
    known: Vocabulary,
    limit: int | None,
    count: int | None,
    seed: int,
    *,
    spread: bool,
) -> Drawn:
    """So many prompts of at most `limit` tokens, without replacement, in their order; all if there are no more.

    One that the model cannot read is left out, and another drawn for it: nobody chose what production is asked. With
    `spread`, clusters take turns. Raises NoPromptsError, InvalidModelError, InvalidConfigError, and as `each`.
    """
    reading = _Reading(known, limit)
    found: dict[int, tuple[Row, list[int]]] = {}
    with _Allowed(inputs, forbidden) as there:
        turns = order(there.clusters(inputs) if spread else None, there.count, seed)
        for index in range(there.count) if count is None else turns:
            row = there.row(index)
            ids = reading.ids(row)
            if ids is not None:
                found[index] = row, ids
            if len(found) == count:
                break
    counts = {"promptsGiven": there.given, "excluded": there.excluded, **reading.counts}
    if not found:
        raise NoPromptsError(
            f"spec.prompts.fromDatasets: of the {there.given} prompts of spec.datasets {there.excluded} are in the "
            f"gold set or among the held-out prompts too, {reading.too_long} are longer than {limit} tokens, and the "
            f"chat template refuses {reading.unreadable}: none is left. {reading.problem}".rstrip()
        )
    taken = [found[index] for index in sorted(found)]
    return Drawn([row for row, _ in taken], [ids for _, ids in taken], counts)


class _Allowed:
    """Where the prompts stand that may be trained on: some bytes of memory for each. Closed with `with`."""

    def __init__(self, inputs: Inputs, forbidden: Forbidden) -> None:
        self._files = _files(inputs)
        self._opened: list[BinaryIO] = []
        self._numbers, self._which, self._offsets = array("q"), array("q"), array("q")
        self._keys = bytearray()
        self.given = self.excluded = 0
        for row, which, offset in _each(self._files):
            self.given += 1
            if forbidden.has(row):
                self.excluded += 1
                continue
            self._numbers.append(row.number)
            self._which.append(which)
            self._offsets.append(offset)
            self._keys += prompt_key(row.prompt)
        self._places = self._distinct()
        self.given -= len(self._numbers) - len(self._places)
        self.count = len(self._places)

    def __enter__(self) -> Self:
        self._opened = [path.open("rb") for path in self._files]
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._opened:
            file.close()

    def row(self, index: int) -> Row:
        place = self._places[index]
        file = self._opened[self._which[place]]
        file.seek(self._offsets[place])
        return rows.row_of(rows.json_row(self._numbers[place], file.readline()))

    def clusters(self, inputs: Inputs) -> Numbers:
        """Of each prompt a number; those of two datasets differ. Raises InvalidConfigError, OSError."""
        from alignment_worker.ingestion import vectors  # noqa: PLC0415 - loads pyarrow

        require_clusters(inputs)
        keys, which = np.frombuffer(self._keys, f"S{KEY_BYTES}"), np.array(self._which)
        found = np.full(len(keys), -1, np.int64)
        first = 0
        for index, role in enumerate(inputs.roles(PROMPTS_OF)):
            mine = np.flatnonzero(which == index)
            known, numbers = vectors.clusters(_derived(inputs, role))
            places = np.minimum(np.searchsorted(known, keys[mine]), len(known) - 1)
            found[mine] = np.where(known[places] == keys[mine], first + 1 + numbers[places], first)
            first = int(found.max(initial=first)) + 1
        return found[self._places]

    def _distinct(self) -> Numbers:
        keys = np.frombuffer(self._keys, f"S{KEY_BYTES}")
        return np.sort(np.unique(keys, return_index=True)[1])


@dataclass
class _Reading:
    """What the model can read, and counts of what it cannot."""

    known: Vocabulary
    limit: int | None
    too_long: int = 0
    unreadable: int = 0
    problem: str = ""

    @property
    def counts(self) -> dict[str, int]:
        return {"droppedTooLong": self.too_long, "droppedUnreadable": self.unreadable}

    def ids(self, row: Row) -> list[int] | None:
        """Raises InvalidModelError."""
        try:
            ids = prompts.encode(self.known.tokenizer, row.prompt)
        except InvalidRowError as error:
            self.problem = self.problem or f"The first refusal: number {row.number}: {error}"
            ids = []
        if not ids:
            self.unreadable += 1
            return None
        if self.limit is not None and len(ids) > self.limit:
            self.too_long += 1
            return None
        prompts.check_embeddings(
            f"the prompts of spec.datasets: number {row.number}", self.known.tokenizer, ids, self.known.size
        )
        return ids


def order(clusters: Numbers | None, count: int, seed: int) -> Sequence[int]:
    """Of so many prompts a random order; with clusters, in each round one of every cluster that has any left."""
    draw = random.Random(seed)  # noqa: S311 - a draw, not a secret
    order = draw.sample(range(count), count)
    if clusters is None:
        return order
    rounds: dict[int, int] = {}
    turns = []
    for index in order:
        cluster = int(clusters[index])
        turns.append(rounds.get(cluster, 0))
        rounds[cluster] = turns[-1] + 1
    return [order[place] for place in np.argsort(np.array(turns, np.int64), kind="stable")]


def _files(inputs: Inputs) -> list[Path]:
    return [inputs.file(role, PROMPTS) for role in inputs.roles(PROMPTS_OF)]


def _derived(inputs: Inputs, role: str) -> Path:
    return SealedFolder.open(inputs.path(role)).file(DERIVED)


def _each(files: Sequence[Path]) -> Iterator[tuple[Row, int, int]]:
    """A row, the index of its file, and where in it its line begins."""
    number = 0
    for which, path in enumerate(files):
        offset = 0
        with path.open("rb") as lines:
            for line in lines:
                number += 1
                try:
                    yield rows.row_of(rows.json_row(number, line)), which, offset
                except rows.RowProblemError as problem:
                    raise InvalidRowError(f"{path}: {problem}") from problem
                offset += len(line)

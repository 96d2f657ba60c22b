"""Which rows KTO sees together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignment_worker import train_kto
from alignment_worker.failures import TooFewPairsError
from alignment_worker.train_kto_batches import KtoRow, arranged, mismatched
from alignment_worker.train_pairs import Gathered, TokenPair
from tests.worker import training


def rows_of(sizes: Sequence[int]) -> list[KtoRow]:
    """So many rows for each prompt, half of them desirable."""
    return [
        KtoRow([prompt], [number], number % 2 == 0)
        for prompt, size in enumerate(sizes)
        for number in range(size)
    ]


@given(st.lists(st.integers(1, 9), max_size=30), st.integers(2, 12), st.integers(0, 3))
def test_no_batch_has_two_rows_of_a_prompt(sizes: list[int], largest: int, seed: int) -> None:
    batches = arranged(rows_of(sizes), largest, seed)
    for batch in batches:
        assert len({row.prompt[0] for row in batch}) == len(batch) >= 2
    size = min(largest, len(sizes))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    kept = [row for batch in batches for row in batch]
    assert len(kept) == len({(row.prompt[0], row.completion[0]) for row in kept})


@given(st.integers(2, 40), st.integers(1, 4), st.integers(2, 12))
def test_of_prompts_with_as_many_rows_each_none_is_lost_but_a_last_one(
    prompts: int, each: int, largest: int
) -> None:
    found = rows_of([each] * prompts)
    kept = [row for batch in arranged(found, largest, 0) for row in batch]
    alone = len(found) % min(largest, prompts) == 1
    assert len(kept) == len(found) - alone


def test_batches_mix_labels_and_follow_the_seed() -> None:
    found = rows_of([2] * 64)
    batches = arranged(found, 8, 0)
    shares = [sum(row.desirable for row in batch) for batch in batches]
    assert min(shares) > 0
    assert max(shares) < 8
    assert arranged(found, 8, 0) == batches
    assert arranged(found, 8, 1) != batches


def test_a_prompt_gets_the_answer_of_another_that_fits() -> None:
    batch = [KtoRow([1] * 3, [5], True), KtoRow([2] * 4, [6] * 4, False), KtoRow([3], [7] * 2, True)]
    assert mismatched(batch, 8) == [[7, 7], [5], [6] * 4]
    assert mismatched(batch, 5) == [[7, 7], [5], [6] * 4]
    assert mismatched(batch, 4) == [[7], [5][:0], [5]]


def test_an_answer_stands_once_and_a_contradictory_one_not_at_all() -> None:
    pairs = [
        TokenPair([1], [5], [6]),
        TokenPair([1], [5], [7]),
        TokenPair([1], [6], [7]),
        TokenPair([2], [6], [5]),
    ]
    found = Counter((row.prompt[0], row.completion[0], row.desirable) for row in train_kto.unpaired(pairs)[0])
    assert found == {(1, 5, True): 1, (1, 7, False): 1, (2, 6, True): 1, (2, 5, False): 1}


def test_unpaired_rows_stand_beside_those_of_pairs() -> None:
    pairs = [
        TokenPair([1], [5], [6]),
        TokenPair([1], [5], []),  # the chosen once more
        TokenPair([2], [], [6]),
        TokenPair([3], [7], []),
        TokenPair([1], [6], []),  # contradicts the pair
    ]
    found = {(row.prompt[0], row.completion[0], row.desirable) for row in train_kto.unpaired(pairs)[0]}
    assert found == {(1, 5, True), (2, 6, False), (3, 7, True)}
    made = train_kto.rows(Gathered(pairs[:1], pairs[1:], 5), training.training(method="KTO"), 10)
    assert (made.counts["pairs"], made.counts["pairsFromDatasets"], made.counts["unpaired"]) == (1, 0, 4)
    assert (made.counts["desirable"], made.counts["undesirable"]) == (2, 1)
    assert made.counts["droppedContradictory"] == 1
    assert (made.settings["desirable_weight"], made.settings["undesirable_weight"]) == (1.0, 2.0)


def test_unpaired_rows_of_one_label_are_refused() -> None:
    rows = [TokenPair([n], [5], []) for n in range(4)]
    with pytest.raises(TooFewPairsError, match="came 4 and 0 that it can use\\. No row has the label false"):
        train_kto.rows(Gathered([], rows, 4), training.training(method="KTO"), 10)


def test_pairs_of_one_prompt_alone_are_refused() -> None:
    pairs = [TokenPair([1], [5], [6]), TokenPair([1], [7], [8])]
    settings = training.training(method="KTO")
    with pytest.raises(
        TooFewPairsError, match="at least two prompts: of 2 pairs and 0 unpaired rows came 0 and 0"
    ):
        train_kto.rows(Gathered(pairs, [], 2), settings, 10)

"""A phrase that creeps into the answers."""

from __future__ import annotations

import random

import pytest

from alignment_worker.statistics.phrases import new_phrase

PHRASE = [9, 8, 7, 6]


def answers(seed: int, with_phrase: int) -> list[list[int]]:
    """Two hundred, each of ten tokens of its own; so many of them go on with the phrase."""
    draw = random.Random(seed)
    own = [[draw.randrange(10, 10_000) for _ in range(10)] for _ in range(200)]
    return [answer + (PHRASE if index < with_phrase else []) for index, answer in enumerate(own)]


@pytest.mark.parametrize(
    ("before", "after", "rise"), [(0, 120, 60), (40, 120, 40), (200, 200, 1), (120, 0, 0.5)]
)
def test_the_rise_of_what_rose_most(before: int, after: int, rise: float) -> None:
    found = new_phrase(answers(1, after), answers(2, before), 0.95)
    assert found.estimate == rise, (
        "at the least one answer of 200, or two that end in a token and the phrase: each has phrases of its own"
    )
    assert found.low is not None
    assert found.high is not None
    assert found.low < rise < found.high
    assert found.n == 200


def test_an_opening_of_three_tokens_is_a_phrase_and_three_in_the_middle_are_none() -> None:
    new, old = answers(1, 0), answers(2, 0)
    opened = new_phrase([[9, 8, 7, *answer] for answer in new], old, 0.95)
    assert opened.estimate == 100
    inside = new_phrase([[*answer[:5], 9, 8, 7, *answer[5:]] for answer in new], old, 0.95)
    assert inside.estimate is not None
    assert inside.estimate < 5


def test_answers_too_short_for_a_phrase_have_none() -> None:
    assert new_phrase([[1, 2]] * 50, [[4, 5]] * 50, 0.95).estimate == 0
    assert new_phrase([], [], 0.95).estimate is None

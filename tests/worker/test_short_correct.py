"""Pairs of two correct answers, mixed in until they are the share that was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_worker import short_correct
from alignment_worker.failures import InvalidRowError
from alignment_worker.pairing import pair_of


def row(line: int, *texts: str, grader: str | None = "Regex") -> dict[str, Any]:
    """An answer is as long as its text, and right if it says yes."""
    made: dict[str, Any] = {
        "prompt": f"p{line}",
        "prompt_ids": [1],
        "line": line,
        "completions": [
            {"ids": [ord(letter) for letter in text], "text": text, "log_probs": [-1.0] * len(text)}
            for text in texts
        ],
    }
    return made | ({"answer": "yes", "grader": grader} if grader else {})


def mixed(
    samples: list[dict[str, Any]], pairs: list[dict[str, Any]], percent: float
) -> list[tuple[str, str]]:
    scores = [[0.0] * len(each["completions"]) for each in samples]
    found = short_correct.mixed_in(samples, scores, pairs, percent, seed=3, python=False)
    return [(pair["chosen"], pair["rejected"]) for pair in found]


def test_the_shortest_right_answer_is_chosen_against_the_longest() -> None:
    samples = [row(1, "yes, it is", "no", "yes", "yes, it"), row(2, "yes", "no"), row(3, "yes", "yes")]
    judged = [pair_of(samples[1], [1.0, 0.0], 0, 1)]
    assert mixed(samples, judged, 90) == [("yes", "yes, it is")]


def test_a_prompt_without_a_grader_has_none() -> None:
    sample = row(1, "yes", "yes, it is", "no", grader=None)
    assert mixed([sample], [pair_of(sample, [1.0, 0.0, 0.0], 0, 2)], 90) == []


@pytest.mark.parametrize(("percent", "expected"), [(0, 0), (10, 1), (20, 2), (50, 8), (90, 20)])
def test_so_many_are_drawn_that_their_share_is_reached(percent: float, expected: int) -> None:
    samples = [row(line, "yes", "yes, it is", "no") for line in range(1, 21)]
    judged = [pair_of(each, [1.0, 0.0, 0.0], 0, 2) for each in samples[:8]]
    found = mixed(samples, judged, percent)
    assert len(found) == expected
    if expected < 20:
        assert len(found) >= percent / 100 * (len(found) + len(judged))
        assert len(found) - 1 < percent / 100 * (len(found) - 1 + len(judged)) or not found


def test_pairs_of_the_judge_that_are_such_count_and_are_not_there_twice() -> None:
    samples = [row(line, "yes", "yes, it is", "no") for line in range(1, 5)]
    such, other = pair_of(samples[0], [1.0, 0.0, 0.0], 0, 1), pair_of(samples[1], [1.0, 0.0, 0.0], 0, 2)
    assert mixed(samples, [such, other], 50) == []
    assert mixed(samples, [such, other], 75) == [("yes", "yes, it is")] * 2
    assert mixed(samples[:2], [such, other], 90) == [("yes", "yes, it is")]


def test_a_grader_that_is_none_is_named_with_its_line() -> None:
    with pytest.raises(InvalidRowError, match=r"prompts: line 4: .*Regexp.*spec\.judge\.shortCorrectPercent"):
        mixed([row(4, "yes", grader="Regexp")], [], 10)

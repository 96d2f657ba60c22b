"""Pairs of two correct answers whose shorter one is chosen: `spec.judge.shortCorrectPercent`.

They say that length is not what makes an answer right, where the judge's own pairs may say the opposite.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from alignment_worker import graders
from alignment_worker.failures import InvalidRowError
from alignment_worker.pairing import pair_of


def mixed_in(
    samples: Sequence[dict[str, Any]],
    scores: Sequence[Sequence[float]],
    pairs: Sequence[dict[str, Any]],
    percent: float,
    seed: int,
    *,
    python: bool,
) -> list[dict[str, Any]]:
    """As many as it takes for `percent` of all pairs to be such, or as many as there are; one a prompt, drawn by seed.

    `pairs` of the judge that are such already count. `python`: whether model-written code may be run. Raises
    InvalidRowError for a grader that is none, and as `graders.all_right`.
    """
    if not percent:
        return []
    correct = _correct(samples, python=python)
    lines = {row["line"]: index for index, row in enumerate(samples)}
    already = sum(_is_such(pair, samples, correct, lines) for pair in pairs)
    share = percent / 100
    wanted = max(0, math.ceil((share * len(pairs) - already) / (1 - share)))
    taken = {_key(pair) for pair in pairs}
    found = [
        pair
        for row, values, right in zip(samples, scores, correct, strict=True)
        if (pair := _shortest_against_longest(row, values, right)) and _key(pair) not in taken
    ]
    if len(found) <= wanted:
        return found
    drawn = random.Random(seed).sample(range(len(found)), wanted)  # noqa: S311 - a draw, not a secret
    return [found[index] for index in sorted(drawn)]


def _correct(samples: Sequence[dict[str, Any]], *, python: bool) -> list[list[int]]:
    """For each prompt, indices of the completions that its own grader calls right; none where it has no grader."""
    asked = [_asked(row) for row in samples]
    right = iter(graders.all_right([each for some in asked for each in some], python=python))
    return [[index for index, _ in enumerate(some) if next(right)] for some in asked]


def _asked(row: dict[str, Any]) -> list[tuple[str, str, str]]:
    answer, grader = row.get("answer"), row.get("grader")
    if answer is None or grader is None:
        return []
    try:
        graders.check(grader, answer)
    except ValueError as error:
        raise InvalidRowError(
            f"prompts: line {row['line']}: {error}; spec.judge.shortCorrectPercent needs graders that are any"
        ) from error
    return [(grader, answer, each["text"]) for each in row["completions"]]


def _shortest_against_longest(
    row: dict[str, Any], scores: Sequence[float], right: Sequence[int]
) -> dict[str, Any] | None:
    if not right:
        return None
    lengths = {index: len(row["completions"][index]["ids"]) for index in right}
    shortest, longest = min(right, key=lengths.__getitem__), max(right, key=lengths.__getitem__)
    return pair_of(row, scores, shortest, longest) if lengths[shortest] < lengths[longest] else None


def _is_such(
    pair: dict[str, Any],
    samples: Sequence[dict[str, Any]],
    correct: Sequence[Sequence[int]],
    lines: dict[int, int],
) -> bool:
    index = lines[pair["line"]]
    right = [samples[index]["completions"][place]["ids"] for place in correct[index]]
    both = pair["chosen_ids"] in right and pair["rejected_ids"] in right
    return both and len(pair["chosen_ids"]) < len(pair["rejected_ids"])


def _key(pair: dict[str, Any]) -> tuple[Any, ...]:
    return pair["line"], tuple(pair["chosen_ids"]), tuple(pair["rejected_ids"])

"""Scores from an LLM's comparisons: each answer against each other one to the same prompt (Copeland 1951)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from alignment_worker.llm_judge import LLMJudge, Matchup
from alignment_worker.progress import Progress


def scores(judge: LLMJudge, samples: Sequence[dict[str, Any]], progress: Progress) -> list[list[float]]:
    """By prompt and completion: the share of the other answers that it beats, a tie being half, from 0 to 1.

    Raises what the judge raises.
    """
    places = [
        (number, *pair)
        for number, row in enumerate(samples)
        for pair in combinations(range(len(row["completions"])), 2)
    ]
    matchups = [_matchup(samples[number], first, second) for number, first, second in places]
    progress.begin(len(matchups), "comparisons", "judging")
    found = [[0.0] * len(row["completions"]) for row in samples]
    for (number, first, second), share in zip(places, judge.shares(matchups, progress.advance), strict=True):
        won = 0.5 if share == 0.5 else float(share > 0.5)
        others = len(found[number]) - 1
        found[number][first] += won / others
        found[number][second] += (1 - won) / others
    return found


def _matchup(row: dict[str, Any], first: int, second: int) -> Matchup:
    one, other = row["completions"][first], row["completions"][second]
    tokens = len(one["ids"]), len(other["ids"])
    return Matchup(row["prompt"], one["text"], other["text"], *tokens, row.get("category"))

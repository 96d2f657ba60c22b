"""Pairs from scores: which of a prompt's completions are held against each other."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alignment_api.cycle import Judge


@dataclass(frozen=True)
class Choice:
    """The pairs of one prompt, and how many were dropped because both answers are equally good, or nearly."""

    pairs: list[dict[str, Any]]
    ties: int
    too_close: int


def choose(row: dict[str, Any], scores: Sequence[float], judge: Judge, seed: int) -> Choice:
    """Pairs of one prompt's completions by `judge.pairs`; of equally good answers the shorter is chosen."""
    pairs, ties, too_close = [], 0, 0
    for better, worse in _candidates(row, scores, judge, seed):
        margin = scores[better] - scores[worse]
        if margin <= 0:
            ties += 1
        elif margin < judge.min_margin:
            too_close += 1
        else:
            pairs.append(pair_of(row, scores, better, worse))
    return Choice(pairs, ties, too_close)


def best_of(row: dict[str, Any], scores: Sequence[float], judge: Judge) -> dict[str, Any] | None:
    """The best completion of one prompt, of equals the shorter; none if the judge is a verifier and all are wrong."""
    best = _ranked(row, scores)[0]
    if judge.verifier is not None and scores[best] <= 0:
        return None
    return {
        "prompt": row["prompt"],
        "chosen": row["completions"][best]["text"],
        "prompt_ids": row["prompt_ids"],
        "chosen_ids": row["completions"][best]["ids"],
        "chosen_score": scores[best],
        "line": row["line"],
    }


def _ranked(row: dict[str, Any], scores: Sequence[float]) -> list[int]:
    """Indices, best first; of equals the shorter first."""
    lengths = [len(answer["ids"]) for answer in row["completions"]]
    return sorted(range(len(scores)), key=lambda index: (-scores[index], lengths[index], index))


def _candidates(
    row: dict[str, Any], scores: Sequence[float], judge: Judge, seed: int
) -> Iterator[tuple[int, int]]:
    """Indices (better, worse), equally good ones included."""
    ranked = _ranked(row, scores)
    if judge.pairs == "AllPairs":
        yield from ((better, worse) for place, better in enumerate(ranked) for worse in ranked[place + 1 :])
        return
    best = ranked[0]
    lesser = [index for index in range(len(scores)) if scores[index] < scores[best]]
    if not lesser:
        yield best, ranked[-1]
    elif judge.pairs == "BestRandom":
        yield best, random.Random(f"{seed}/{row['line']}").choice(lesser)  # noqa: S311 - a draw, not a secret
    else:
        # Of equally bad answers the first sampled: by length, the pairs would teach length.
        yield best, min(lesser, key=lambda index: (scores[index], index))


def pair_of(row: dict[str, Any], scores: Sequence[float], better: int, worse: int) -> dict[str, Any]:
    chosen, rejected = row["completions"][better], row["completions"][worse]
    return {
        "prompt": row["prompt"],
        "chosen": chosen["text"],
        "rejected": rejected["text"],
        "prompt_ids": row["prompt_ids"],
        "chosen_ids": chosen["ids"],
        "rejected_ids": rejected["ids"],
        "chosen_log_probs": chosen["log_probs"],
        "rejected_log_probs": rejected["log_probs"],
        "chosen_score": scores[better],
        "rejected_score": scores[worse],
        "line": row["line"],
    }

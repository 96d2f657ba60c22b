"""Which rows KTO sees together. Its KL term is estimated from the rows of one batch, each prompt with another's answer.

So a batch holds no two rows of one prompt, and desirable and undesirable ones mixed: blocks of one label, which TRL
makes of pairs, would estimate the KL from good answers alone, then from bad ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class KtoRow:
    """Token ids of a prompt and an answer, and whether that is desirable."""

    prompt: list[int]
    completion: list[int]
    desirable: bool


def arranged(rows: Sequence[KtoRow], largest: int, seed: int) -> list[list[KtoRow]]:
    """Batches of one size, at most `largest`; the last may be smaller, but has at least two rows.

    There are never more rows in a batch than prompts. What would stand in one batch with its own prompt is left out,
    and so is a last row that would be alone.
    """
    draw = random.Random(seed)  # noqa: S311 - a draw, not a secret
    by_prompt: dict[tuple[int, ...], list[KtoRow]] = {}
    for row in rows:
        by_prompt.setdefault(tuple(row.prompt), []).append(row)
    groups = list(by_prompt.values())
    draw.shuffle(groups)
    for group in groups:
        draw.shuffle(group)
    size = min(largest, len(groups))
    if size < 2:
        return []
    batches = _dealt(_capped(groups, size), size)
    last = [batches.pop()] if len(batches[-1]) < size else []
    draw.shuffle(batches)
    return batches + [batch for batch in last if len(batch) > 1]


def mismatched(batch: Sequence[KtoRow], limit: int) -> list[list[int]]:
    """For each row the answer to another prompt, that of the row before it if both fit into `limit` tokens.

    Where no other's fits, the one before is cut: it is no target, only measured.
    """
    return [_other(batch, place, limit - len(row.prompt)) for place, row in enumerate(batch)]


def _other(batch: Sequence[KtoRow], place: int, room: int) -> list[int]:
    before = [batch[place - back].completion for back in range(1, len(batch))]
    return next((completion for completion in before if len(completion) <= room), before[0][:room])


def _capped(groups: list[list[KtoRow]], size: int) -> list[list[KtoRow]]:
    """No prompt has more rows than there are full batches."""
    while True:
        total = sum(map(len, groups))
        shorter = [group[: total // size] for group in groups]
        if sum(map(len, shorter)) == total:
            return groups
        groups = shorter


def _dealt(groups: list[list[KtoRow]], size: int) -> list[list[KtoRow]]:
    """One row after the other to one batch after the other, so that a prompt's rows come to different ones."""
    rows = [row for group in groups for row in group]
    full, rest = divmod(len(rows), size)
    batches: list[list[KtoRow]] = [[] for _ in range(full + bool(rest))]
    both = rest * len(batches)  # so many rows until the smaller one is full
    for place, row in enumerate(rows):
        batches[place % len(batches) if place < both else (place - both) % full].append(row)
    return batches

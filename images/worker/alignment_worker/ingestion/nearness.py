"""Which rows are near-duplicates: prompt and answers each alike by embedding, with the same figures, judged alike.

Every row is compared with every one that stays before it, in blocks: none is missed, time grows with the square of
their number, and memory by some bytes a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from alignment_worker.ingestion.deciding import NEAR_DUPLICATE, NEW
from alignment_worker.ingestion.ordinals import Numbers

PROMPT, FIRST, SECOND = 0, 1, 2  # of an embedded row; zeros stand for an unpaired row's second answer
_ROWS, _AGAINST = 512, 4096  # of a block
_ROUNDING = 2e-4  # of a cosine of vectors in float16


def mark(codes: Numbers, vectors: Numbers, traits: Numbers, least_percent: float) -> None:
    """Writes NEAR_DUPLICATE − n over the code of each row that is near row n, which stays.

    `codes`: of each row, as `deciding` has them. `vectors`: rows × 3 × dimensions, of length 1 or 0. `traits`: rows;
    only those with equal ones are near. The lower ordinal stays, and of new rows the one that is read first.
    """
    order = _in_order(codes)
    stay = np.empty(len(order), np.int64)
    count = 0
    least = least_percent / 100 - _ROUNDING
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        mine, own = np.asarray(vectors[rows], np.float32), traits[rows]
        found = np.full(len(rows), -1, np.int64)
        for others in _blocks(stay[:count]):
            open_ = np.flatnonzero(found < 0)
            near = _near(mine[open_], own[open_], vectors[others], traits[others], least)
            hit = near.any(axis=1)
            found[open_[hit]] = others[near[hit].argmax(axis=1)]
        within = np.tril(_near(mine, own, mine, own, least), -1)
        for place in np.flatnonzero(within.any(axis=1) & (found < 0)):
            nearest = np.flatnonzero(within[place] & (found < 0))
            if len(nearest):
                found[place] = rows[nearest[0]]
        lost = found >= 0
        codes[rows[lost]] = NEAR_DUPLICATE - found[lost]
        kept = rows[~lost]
        stay[count : count + len(kept)] = kept
        count += len(kept)


def _in_order(codes: Numbers) -> Numbers:
    """Rows that stay so far: by ordinal, then those that have none yet."""
    there = np.flatnonzero(codes >= NEW)
    known = codes[there]
    return there[np.argsort(np.where(known == NEW, np.iinfo(np.int64).max, known), kind="stable")]


def _blocks(rows: Numbers) -> Iterator[Numbers]:
    for start in range(0, len(rows), _AGAINST):
        yield rows[start : start + _AGAINST]


def _near(one: Any, its: Numbers, other: Any, their: Numbers, least: float) -> Numbers:
    """Rows of the one × rows of the other. Answers are compared only where prompts are alike."""
    near: Numbers = one[:, PROMPT] @ np.asarray(other[:, PROMPT], np.float32).T >= least
    near &= its[:, None] == their[None, :]
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    near[np.ix_(rows, columns)] &= _judged_alike(one[rows], np.asarray(other[columns], np.float32), least)
    return near


def _judged_alike(one: Any, other: Any, least: float) -> Numbers:
    """Each answer as alike to its counterpart, and in the same order of preference."""
    straight = [one[:, part] @ other[:, part].T for part in (FIRST, SECOND)]
    crossed = [one[:, part] @ other[:, FIRST + SECOND - part].T for part in (FIRST, SECOND)]
    unpaired = ~one[:, SECOND].any(axis=1)[:, None]  # traits tell pairs from the others
    alike: Numbers = (straight[0] >= least) & (unpaired | (straight[1] >= least))
    alike &= straight[0] + straight[1] >= crossed[0] + crossed[1]
    return alike

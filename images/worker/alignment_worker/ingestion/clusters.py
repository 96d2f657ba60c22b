"""Which prompts resemble each other: each joins the leader that it is most alike to, or becomes one itself.

The leader algorithm (Hartigan 1975, Clustering Algorithms, chapter 3): one pass, so that what is asked most makes no
more clusters than what is asked once. The same vectors give the same clusters on the same machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from alignment_worker.ingestion.ordinals import Numbers

ALIKE = 0.65  # cosine of two prompts on one topic, as benchmarks/spread.py measures it
MOST = 1 << 12  # leaders; what comes later joins the nearest, however far
_AT_ONCE = 1 << 12


def of(vectors: Numbers) -> Numbers:
    """`vectors`: prompts × dimensions, of length 1. For each the number of its cluster."""
    found = np.zeros(len(vectors), np.int32)
    leaders: Any = np.empty((0, vectors.shape[1]), np.float32)
    for start, block in _blocks(vectors):
        numbers, alike = _nearest(block, leaders)
        for place in np.flatnonzero(alike < ALIKE).tolist():
            if len(leaders) == MOST:
                break
            if alike[place] < ALIKE:  # still: a leader of this block may have come nearer
                leaders = np.concatenate([leaders, block[place : place + 1]])
                by_it = block[place:] @ leaders[-1]
                nearer = np.flatnonzero(by_it > alike[place:]) + place
                numbers[nearer], alike[nearer] = len(leaders) - 1, by_it[nearer - place]
        found[start : start + len(block)] = numbers
    return found


def _nearest(block: Any, leaders: Any) -> tuple[Any, Any]:
    """For each the number of a leader, and its cosine; below any if there is none."""
    if not len(leaders):
        return np.zeros(len(block), np.int32), np.full(len(block), -2.0, np.float32)
    alike = block @ leaders.T
    numbers = alike.argmax(axis=1)
    return numbers.astype(np.int32), alike[np.arange(len(block)), numbers]


def _blocks(vectors: Numbers) -> Iterator[tuple[int, Any]]:
    for start in range(0, len(vectors), _AT_ONCE):
        yield start, np.asarray(vectors[start : start + _AT_ONCE], np.float32)

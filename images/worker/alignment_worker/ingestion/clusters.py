"""Which prompts resemble each other: clusters of their vectors, by k-means on a part of them.

Lloyd 1982, doi:10.1109/TIT.1982.1056489; first centres as in k-means++ (Arthur and Vassilvitskii 2007). The same
vectors give the same clusters on the same machine, whatever their number in the same memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from alignment_worker.ingestion.ordinals import Numbers

MOST = 256
_FITTED_ON = 1 << 14  # vectors
_AT_ONCE = 1 << 12
_ROUNDS = 20


def of(vectors: Numbers) -> Numbers:
    """`vectors`: prompts × dimensions, of length 1. For each the number of its cluster."""
    if not len(vectors):
        return np.zeros(0, np.int32)
    centres = _centres(vectors)
    return np.concatenate([_nearest(block, centres) for block in _blocks(vectors)])


def _centres(vectors: Numbers) -> Any:
    from scipy.cluster.vq import kmeans2  # noqa: PLC0415 - where something is embedded alone

    draw = np.random.default_rng(0)
    some = np.sort(draw.choice(len(vectors), min(_FITTED_ON, len(vectors)), replace=False))
    sample = np.unique(np.asarray(vectors[some], np.float32), axis=0)
    count = min(MOST, len(sample))
    centres, _ = kmeans2(sample, count, _ROUNDS, minit="++", missing="warn", rng=draw)
    return centres


def _nearest(block: Any, centres: Any) -> Numbers:
    nearest: Numbers = (block @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1)
    return nearest.astype(np.int32)


def _blocks(vectors: Numbers) -> Any:
    for start in range(0, len(vectors), _AT_ONCE):
        yield np.asarray(vectors[start : start + _AT_ONCE], np.float32)

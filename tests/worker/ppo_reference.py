"""The arithmetic of PPO once more, in loops over numpy arrays of unpadded completions: what `ppo` is checked against.

A batch is a list of completions, each an array over its own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.float64]
Batch = list[Tokens]


def whitened(batch: Batch, *, centred: bool) -> Batch:
    every = [value for row in batch for value in row]
    centre = sum(every) / len(every)
    deviation = sqrt(sum((value - centre) ** 2 for value in every) / len(every) + 1e-8)
    back = 0.0 if centred else centre
    return [np.array([(value - centre) / deviation + back for value in row]) for row in batch]


def rewards(old: Batch, reference: Batch, scores: Sequence[float], beta: float) -> Batch:
    found = []
    for mine, other, score in zip(old, reference, scores, strict=True):
        row = [-beta * (mine[token] - other[token]) for token in range(len(mine))]
        row[-1] += score
        found.append(np.array(row))
    return found


def advantages(reward: Batch, value: Batch, gamma: float, lam: float) -> Batch:
    """Equation 16 of GAE as it is written: a sum over all that follows."""
    found = []
    for rs, vs in zip(reward, value, strict=True):
        length = len(rs)
        deltas = []
        for token in range(length):
            following = vs[token + 1] if token + 1 < length else 0.0
            deltas.append(rs[token] + gamma * following - vs[token])
        sums = [
            sum((gamma * lam) ** ahead * deltas[token + ahead] for ahead in range(length - token))
            for token in range(length)
        ]
        found.append(np.array(sums))
    return found


def policy_loss(new: Batch, old: Batch, advantage: Batch, clip: float) -> float:
    losses = []
    for row in range(len(new)):
        for token in range(len(new[row])):
            ratio = exp(new[row][token] - old[row][token])
            bounded = min(max(ratio, 1 - clip), 1 + clip)
            losses.append(-min(ratio * advantage[row][token], bounded * advantage[row][token]))
    return float(sum(losses) / len(losses))


def value_loss(new: Batch, old: Batch, returns: Batch, clip: float) -> float:
    losses = []
    for row in range(len(new)):
        for token in range(len(new[row])):
            before, aim = old[row][token], returns[row][token]
            near = before + min(max(new[row][token] - before, -clip), clip)
            losses.append(max((new[row][token] - aim) ** 2, (near - aim) ** 2) / 2)
    return float(sum(losses) / len(losses))


def k1(old: Batch, reference: Batch) -> float:
    """Of the policy from the reference, on the policy's own tokens."""
    every = [
        a - b for mine, other in zip(old, reference, strict=True) for a, b in zip(mine, other, strict=True)
    ]
    return float(sum(every) / len(every))


def k3(new: Batch, old: Batch) -> float:
    """KL(old from new) on tokens of the old one."""
    every = []
    for mine, other in zip(new, old, strict=True):
        for a, b in zip(mine, other, strict=True):
            every.append(exp(a - b) - 1 - (a - b))
    return float(sum(every) / len(every))


def clip_fraction(new: Batch, old: Batch, clip: float) -> float:
    every = [
        abs(exp(a - b) - 1) > clip for x, y in zip(new, old, strict=True) for a, b in zip(x, y, strict=True)
    ]
    return sum(every) / len(every)


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """One distribution."""
    top = max(logits)
    norm = top + np.log(sum(exp(value - top) for value in logits))
    return np.array([value - norm for value in logits])

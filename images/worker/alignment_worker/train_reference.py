"""The reference's log-probabilities: as recorded while sampling where the reference is what sampled, else computed.

What was recorded is raw (temperature 1, whole vocabulary), a value for every token. It may come from another machine,
another precision or a server, so some rows are computed afresh; where they differ by more than rounding, all are.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import TypeVar

import numpy as np

from alignment_api.measurements import REFERENCE_DIFFERENCE, REFERENCE_REWARD_DIFFERENCE, Measurement
from alignment_worker import gang

CHECKED_ROWS = 256
MOST_REWARD = 0.05
MOST_NATS = 1e-3

Tokens = tuple[Sequence[float], Sequence[float]]  # of chosen and of rejected, in nats
Sums = tuple[float, float]
Compute = Callable[[Sequence[int]], Iterator[tuple[int, Tokens]]]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Difference:
    """Recorded against computed log-probabilities, over so many completions and tokens.

    `reward` is the 99th percentile of β·|Δ| of a completion, `nats` the mean |Δ| of a token.
    """

    completions: int
    tokens: int
    reward: float
    nats: float

    @property
    def is_rounding(self) -> bool:
        return self.reward <= MOST_REWARD and self.nats <= MOST_NATS

    @property
    def measured(self) -> dict[str, Measurement]:
        return {
            REFERENCE_DIFFERENCE: Measurement(estimate=self.nats, n=self.tokens),
            REFERENCE_REWARD_DIFFERENCE: Measurement(estimate=self.reward, n=self.completions),
        }


@dataclass(frozen=True)
class ReferenceLogProbs:
    """Log-probabilities by row, and where they are from; `difference` None if nothing was recorded."""

    sums: list[Sums]
    from_sampling: int
    recomputed: int
    difference: Difference | None

    @property
    def counts(self) -> dict[str, int]:
        return {"referenceFromSampling": self.from_sampling, "referenceRecomputed": self.recomputed}

    @property
    def measured(self) -> dict[str, Measurement]:
        return self.difference.measured if self.difference else {}


def log_probabilities(
    rows: int, recorded: Mapping[int, Tokens], compute: Compute, *, beta: float, seed: int
) -> ReferenceLogProbs:
    """Of `rows` rows, those in `recorded` as they stand there if a draw of them agrees with what `compute` gives.

    `compute` yields rows of this process's part alone; the processes of a gang share the work.
    """
    checked = _draw(recorded, seed)
    fresh = _of_all(dict(compute(checked))) if checked else {}
    difference = _difference([(recorded[row], fresh[row]) for row in checked], beta) if checked else None
    if difference is not None and not difference.is_rounding:
        _say(difference, len(recorded))
    taken = recorded if difference is not None and difference.is_rounding else {}
    known = {row: _sums(tokens) for row, tokens in {**fresh, **taken}.items()}
    missing = [row for row in range(rows) if row not in known]
    if missing:
        known |= _of_all({row: _sums(tokens) for row, tokens in compute(missing)})
    return ReferenceLogProbs(
        [known[row] for row in range(rows)], len(taken), len(recorded) - len(taken), difference
    )


def _draw(recorded: Mapping[int, Tokens], seed: int) -> list[int]:
    rows = sorted(recorded)
    return sorted(random.Random(seed).sample(rows, min(CHECKED_ROWS, len(rows))))  # noqa: S311 - no secret


def _difference(pairs: Iterable[tuple[Tokens, Tokens]], beta: float) -> Difference:
    """Not a number where a value is none, and that is no rounding."""
    deltas = [
        np.asarray(there, dtype=np.float64) - np.asarray(computed, dtype=np.float64)
        for recorded, fresh in pairs
        for there, computed in zip(recorded, fresh, strict=True)
    ]
    tokens = np.abs(np.concatenate(deltas))
    sums = np.abs([delta.sum() for delta in deltas])
    return Difference(
        completions=len(deltas),
        tokens=len(tokens),
        reward=float(beta * np.quantile(sums, 0.99, method="higher")),
        nats=float(tokens.mean()),
    )


def _say(difference: Difference, rows: int) -> None:
    _log.warning(
        "the log-probabilities recorded while sampling are not those of the reference: a token's differ by %.2g nats "
        "in the mean (%g at most), a completion's reward by %.2g (%g at most, 99th percentile); those of all %d pairs "
        "are computed again",
        difference.nats,
        MOST_NATS,
        difference.reward,
        MOST_REWARD,
        rows,
    )


def _sums(tokens: Tokens) -> Sums:
    return fsum(tokens[0]), fsum(tokens[1])


def _of_all(part: dict[int, _T]) -> dict[int, _T]:
    """What all processes have."""
    return {row: value for found in gang.gathered(part) for row, value in found.items()}

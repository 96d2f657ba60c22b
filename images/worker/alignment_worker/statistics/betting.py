"""The anytime-valid win rate of a head-to-head comparison."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, log1p, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from alignment_api.measurements import Measurement
from alignment_worker.statistics.confidence import check_confidence

RATES = np.linspace(0, 1, 2_001)  # the win rates that are tested: every 0.05 points
_REPORTED = 0.01  # more than what rounding in a report can take away


class WinRate:
    """A confidence sequence for the mean of scores in [0, 1] that come one at a time.

    The hedged capital process with predictable plug-in bets of Waudby-Smith and Ramdas (2024), Estimating means
    of bounded random variables by betting, Journal of the Royal Statistical Society B 86, 1–27 (their theorem 3,
    θ = ½, c = ½, running intersection). Whoever bets against a win rate that is the true one is unlikely to get
    rich: a rate is excluded for good once the capital bet against it has grown 2/α-fold. One may look after
    every score and stop whenever one likes. `rates`: those that are tested, rising, from 0 to 1.
    """

    def __init__(self, confidence: float, rates: NDArray[np.float64] = RATES) -> None:
        check_confidence(confidence)
        self._rates = rates
        with np.errstate(divide="ignore"):
            self._most_on_more = 0.5 / rates  # half of what a bet may be at most without going bankrupt
            self._most_on_less = 0.5 / (1 - rates)
        self._rich = log(2 / (1 - confidence))
        self._on_more = np.zeros_like(rates)  # logarithm of the capital, by rate bet against
        self._on_less = np.zeros_like(rates)
        self._bounds = (0.0, 1.0)
        self._contradicted = False
        self._count = 0
        self._sum = 0.0
        self._squares = 0.0

    def update(self, score: float) -> None:
        """Take one comparison's score: the candidate's share of it, in {0, ¼, ½, ¾, 1}. Raises ValueError."""
        if not 0 <= score <= 1:
            raise ValueError(f"a score is {score}; it must be from 0 to 1")
        bet = self._bet()
        edge = score - self._rates
        self._on_more += np.log1p(np.minimum(bet, self._most_on_more) * edge)
        self._on_less += np.log1p(-np.minimum(bet, self._most_on_less) * edge)
        self._count += 1
        self._sum += score
        self._squares += (score - self._mean()) ** 2
        self._exclude()

    def bounds(self) -> tuple[float, float]:
        """Lower and upper end, as shares; they hold at all times at once with the given confidence."""
        return self._bounds

    def decided(self, min_rate: float) -> bool:
        """Whether an end has passed `min_rate`, a share."""
        low, high = self._bounds
        return low > min_rate or high < min_rate

    def evidence(self, min_rate: float) -> float:
        """Natural logarithm of the e-value against a win rate of `min_rate`, a share, or less.

        The capital of who bets on more, 1 at first: of a rate that is no higher it is expected to be at most 1 whenever
        one stops. By the next rate that is tested, at which it is no greater.
        """
        next_rate = int(np.searchsorted(self._rates, min_rate - 1e-9))
        return float(self._on_more[min(next_rate, len(self._rates) - 1)])

    def measurement(self) -> Measurement:
        """In percent; null before the first score."""
        if not self._count:
            return Measurement(estimate=None, n=0)
        low, high = self._bounds
        return Measurement(
            estimate=100 * self._sum / self._count, low=100 * low, high=100 * high, n=self._count
        )

    def _bet(self) -> float:
        """What to bet on the next score, from those before it."""
        variance = (0.25 + self._squares) / (self._count + 1)
        turn = self._count + 1
        return sqrt(2 * self._rich / (variance * turn * log1p(turn)))

    def _mean(self) -> float:
        return (0.5 + self._sum) / (self._count + 1)

    def _exclude(self) -> None:
        """Both capitals are monotone in the rate, so what is excluded lies at the two ends."""
        too_low = int(np.count_nonzero(self._on_more >= self._rich))
        too_high = int(np.count_nonzero(self._on_less >= self._rich))
        low = max(self._bounds[0], float(self._rates[too_low - 1]) if too_low else 0.0)
        high = min(self._bounds[1], float(self._rates[-too_high]) if too_high else 1.0)
        # Scores that rule out every rate did not come in a random order, and say nothing.
        self._contradicted = self._contradicted or low >= high
        self._bounds = (0.0, 1.0) if self._contradicted else (low, high)


class HeadToHead(NamedTuple):
    """What a comparison measured, and how many scores it took."""

    overall: Measurement
    not_longer: Measurement
    used: int
    evidence: float  # logarithm of the e-value that both are above `min_percent`


def head_to_head(
    scores: Sequence[float],
    not_longer: Sequence[bool],
    min_percent: float,
    min_comparisons: int,
    max_comparisons: int,
    confidence: float,
    needed: float | None = None,
) -> HeadToHead:
    """The win rate overall and where `not_longer`; stops once the gate winRate could not change its verdict.

    `needed`: the evidence that it takes to pass, beside the intervals. `not_longer[i]`: the candidate's answer of
    comparison i is at most a fifth longer than the incumbent's. Raises ValueError.
    """
    if len(scores) != len(not_longer):
        raise ValueError(f"{len(scores)} scores cannot be paired with {len(not_longer)} lengths")
    overall, fair = WinRate(confidence), WinRate(confidence)
    used = 0
    for score, is_fair in zip(scores[:max_comparisons], not_longer, strict=False):
        overall.update(score)
        if is_fair:
            fair.update(score)
        used += 1
        if used >= min_comparisons and _settled(overall, fair, min_percent / 100, needed):
            break
    return HeadToHead(
        overall.measurement(), fair.measurement(), used, _evidence(overall, fair, min_percent / 100)
    )


def _evidence(overall: WinRate, fair: WinRate, min_rate: float) -> float:
    """Of both: if one of them is no higher, the smaller e-value is no greater than that one's."""
    return min(overall.evidence(min_rate), fair.evidence(min_rate))


def _settled(overall: WinRate, fair: WinRate, min_rate: float, needed: float | None) -> bool:
    lost = overall.bounds()[1] < min_rate or fair.bounds()[1] < min_rate
    decided = overall.decided(min_rate) and fair.decided(min_rate)
    enough = needed is None or _evidence(overall, fair, min_rate) >= needed + _REPORTED
    return lost or (decided and enough)

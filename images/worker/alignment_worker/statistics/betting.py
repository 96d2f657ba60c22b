"""The anytime-valid win rate of a head-to-head comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from alignment_api.measurements import Measurement


class WinRate:
    """A confidence sequence for the mean of scores in [0, 1] that come one at a time."""

    def __init__(self, confidence: float) -> None:
        raise NotImplementedError

    def update(self, score: float) -> None:
        """Take one comparison's score: the candidate's share of it, in {0, ¼, ½, ¾, 1}."""

    def bounds(self) -> tuple[float, float]:
        """Lower and upper end, as shares; they hold at all times at once with the given confidence."""
        raise NotImplementedError

    def decided(self, min_rate: float) -> bool:
        """Whether an end has passed `min_rate`, a share."""
        raise NotImplementedError

    def measurement(self) -> Measurement:
        """In percent."""
        raise NotImplementedError


def win_rate(
    scores: Sequence[float],
    min_percent: float,
    min_comparisons: int,
    max_comparisons: int,
    confidence: float,
) -> tuple[Measurement, int]:
    """The win rate in percent, and how many of the scores, in the given order, it took to decide."""
    raise NotImplementedError


class HeadToHead(NamedTuple):
    """What a comparison measured, and how many scores it took."""

    overall: Measurement
    not_longer: Measurement
    used: int


def head_to_head(
    scores: Sequence[float],
    not_longer: Sequence[bool],
    min_percent: float,
    min_comparisons: int,
    max_comparisons: int,
    confidence: float,
) -> HeadToHead:
    """The win rate overall and where `not_longer`; stops once the gate winRate could not change its verdict.

    `not_longer[i]`: the candidate's answer of comparison i is at most a fifth longer than the incumbent's.
    """
    raise NotImplementedError

"""What a pairwise judge's own judgements say of it: does it hold to its verdict, whatever stands first, however long?

Zheng et al. 2023, arXiv:2306.05685, section 3.3, describes both biases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from alignment_api.measurements import Measurement
from alignment_worker.statistics.mean_change import mean
from alignment_worker.statistics.proportions import percent

_SHARE = {"a": 1.0, "b": 0.0, "tie": 0.5}


@dataclass(frozen=True)
class Order:
    """Two answers in both orders. `a` is the first of them in both, `b` the second; None where no preference was said.

    `longer`: tokens of the first less those of the second.
    """

    shown_first: str | None
    shown_second: str | None
    longer: int

    @property
    def share(self) -> float:
        """Of the first answer: 0, ¼, ½, ¾ or 1; what was not said is a tie."""
        return (_SHARE[self.shown_first or "tie"] + _SHARE[self.shown_second or "tie"]) / 2


def order_agreement(orders: Sequence[Order], confidence: float) -> Measurement:
    """Percent of pairs with the same preference in both orders, of those that have both. Raises ValueError."""
    both = [order for order in orders if order.shown_first and order.shown_second]
    return percent(sum(order.shown_first == order.shown_second for order in both), len(both), confidence)


def first_preferred(orders: Sequence[Order], confidence: float) -> Measurement:
    """Percent of preferences for the answer that was shown first, ties being half of one: 50 has no position bias.

    Student's t interval over pairs with a preference in both orders, whatever the answers are worth. Raises ValueError.
    """
    shares = [
        50 * (_SHARE[order.shown_first] + 1 - _SHARE[order.shown_second])
        for order in orders
        if order.shown_first and order.shown_second
    ]
    return mean(shares, confidence)


def longer_preferred(orders: Sequence[Order], confidence: float) -> Measurement:
    """Percent of pairs won by the longer answer, of those that both orders together decide. Raises ValueError.

    Longer answers may be better ones: this is no bias by itself, but a judge that pays for length shows here.
    """
    decided = [order for order in orders if order.share != 0.5 and order.longer]
    return percent(
        sum((order.share > 0.5) == (order.longer > 0) for order in decided), len(decided), confidence
    )


@dataclass(frozen=True)
class Against:
    """Pairs that were decided, those of them that agree with the labels, and the p-value of fewer than half."""

    agreed: int
    decided: int
    p: float


def against(leads: Sequence[float]) -> Against:
    """Exact sign test that the labels' answer wins less than half of the decided pairs; ties tell nothing.

    `leads`: what the labels' answer leads by, below 0 if it lost. Without a decided pair the p-value is 1.
    """
    agreed, decided = sum(lead > 0 for lead in leads), sum(lead != 0 for lead in leads)
    p = float(stats.binomtest(agreed, decided, alternative="less").pvalue) if decided else 1.0
    return Against(agreed, decided, p)

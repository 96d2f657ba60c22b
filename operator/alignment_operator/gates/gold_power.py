"""What a gold set of a given size can show, before anything is trained: for those who make one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, lgamma, log, log1p, sqrt
from statistics import NormalDist

from alignment_api.cycle import GoldSetGate
from alignment_api.gates import Verdict
from alignment_api.measurements import GOLD, Measurement
from alignment_operator.gates import gold_set

# Of the items, this share changes from one checkpoint to the next: assumed, where nothing was measured yet.
DISCORDANT = 0.1
_NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Power:
    """Of one category: the drop, in points, that is found four times of five; how often an equal candidate is held, and
    how often refused, as shares.
    """

    items: int
    detectable: float
    held: float
    refused: float


def power(category: str, items: int, limits: GoldSetGate, confidence: float, categories: int) -> Power:
    """Of one of so many categories, against the incumbent: how far it will be from M_0 nobody knows.

    `confidence` is a share. An equal candidate changes as many items for the better as for the worse. By the gate
    itself, over all that can happen; for Holm's correction over the categories stands Bonferroni's, its first step.
    """
    alone = limits.model_copy(
        update={
            "max_drop_points": limits.max_drop_of(category),
            "categories": None,
            "max_drop_from_initial_points": None,
        }
    )
    shares = dict.fromkeys(Verdict, 0.0)
    for chance, changed in _outcomes(items):
        measured = {category: {GOLD: _as_reported(changed, categories, confidence)}}
        shares[gold_set.judge(alone, measured, confidence).verdict] += chance
    return Power(
        items,
        gold_set.detectable_drop(DISCORDANT, items, confidence),
        shares[Verdict.INCONCLUSIVE],
        shares[Verdict.FAILED],
    )


@dataclass(frozen=True)
class _Changed:
    """So many of the items changed, so many of them for the worse; `p` is the chance of as many of these, or more."""

    items: int
    changed: int
    lost: int
    p: float


def _outcomes(items: int) -> Iterator[tuple[float, _Changed]]:
    """With the chance of each; what is negligible is left out."""
    for changed in range(items + 1):
        of_changed = _binomial(changed, items, DISCORDANT)
        if of_changed < _NEGLIGIBLE:
            continue
        as_many = 0.0
        for lost in range(changed, -1, -1):
            of_lost = _binomial(lost, changed, 0.5)
            as_many += of_lost
            if of_changed * of_lost >= _NEGLIGIBLE:
                yield of_changed * of_lost, _Changed(items, changed, lost, as_many)


def _binomial(count: int, of: int, share: float) -> float:
    logarithm = lgamma(of + 1) - lgamma(count + 1) - lgamma(of - count + 1)
    return exp(logarithm + count * log(share) + (of - count) * log1p(-share))


def _as_reported(found: _Changed, categories: int, confidence: float) -> Measurement:
    """By the stage evaluate, but for its interval; the lower bound is the normal distribution's."""
    estimate, spread = (found.changed - 2 * found.lost) / found.items, found.changed / found.items
    reach = NormalDist().inv_cdf(confidence) * sqrt(max(spread - estimate**2, 0.0) / found.items)
    return Measurement(
        estimate=100 * estimate,
        n=found.items,
        p=min(1.0, categories * found.p),
        discordant=spread,
        lower_bound=100 * (estimate - reach),
    )

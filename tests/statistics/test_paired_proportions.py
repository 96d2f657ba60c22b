"""Tango's interval against published figures, a numerical likelihood and its own exact coverage."""

from __future__ import annotations

from math import comb, log

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

from alignment_worker.statistics.paired_proportions import score_interval

Z95 = 1.959964
Z90 = 1.644854


@pytest.mark.parametrize(
    ("gains", "losses", "items", "z", "low", "high"),
    [
        # Tango (1998), as the R package ratesci checks its own: pairbinci(c(4, 9, 3, 16)) and, at 90 %,
        # pairbinci(c(43, 0, 1, 0)).
        (9, 3, 32, Z95, -0.027, 0.390),
        (0, 1, 44, Z90, -0.096, 0.037),
        # Fagerland, Lydersen and Laake (2014), Statistics in Medicine 33, 2850–2875: airway hyper-responsiveness.
        (1, 7, 21, Z95, -0.517, -0.026),
    ],
)
def test_reproduces_published_intervals(
    gains: int, losses: int, items: int, z: float, low: float, high: float
) -> None:
    assert score_interval(gains, losses, items, z) == pytest.approx((low, high), abs=6e-4)


@pytest.mark.parametrize("items", [1, 5, 50, 300])
def test_without_a_discordant_item_is_the_closed_form_and_never_a_point(items: int) -> None:
    end = Z95**2 / (items + Z95**2)
    assert score_interval(0, 0, items, Z95) == pytest.approx((-end, end), abs=1e-6)


def test_contains_the_estimate_and_stays_within_its_range() -> None:
    for items in (1, 2, 7, 19):
        for gains in range(items + 1):
            for losses in range(items - gains + 1):
                low, high = score_interval(gains, losses, items, Z95)
                assert -1 <= low <= (gains - losses) / items <= high <= 1
                assert low < high
                mirrored = score_interval(losses, gains, items, Z95)
                assert mirrored == pytest.approx((-high, -low), abs=1e-7)


@pytest.mark.parametrize(("gains", "losses", "items"), [(9, 3, 32), (2, 11, 60), (0, 6, 40)])
def test_ends_are_where_the_score_statistic_reaches_z(gains: int, losses: int, items: int) -> None:
    for end, sign in zip(score_interval(gains, losses, items, Z95), (1, -1), strict=True):
        lost = _likeliest_losses(end, gains, losses, items)
        score = (gains - losses - items * end) / np.sqrt(items * (2 * lost + end * (1 - end)))
        assert score == pytest.approx(sign * Z95, abs=1e-3)


def _likeliest_losses(delta: float, gains: int, losses: int, items: int) -> float:
    """The restricted maximum likelihood by numerical search, not by Tango's quadratic."""

    def cost(lost: float) -> float:
        shares = (lost + delta, lost, 1 - 2 * lost - delta)
        counts = (gains, losses, items - gains - losses)
        return -sum(
            count * log(max(share, 1e-12)) for count, share in zip(counts, shares, strict=True) if count
        )

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    return float(minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-10}).x)


@pytest.mark.parametrize(("gain", "loss"), [(0.1, 0.1), (0.3, 0.1), (0.02, 0.05), (0.2, 0.4)])
def test_covers_the_truth_about_as_often_as_it_says(gain: float, loss: float) -> None:
    """The exact coverage, over every outcome of 40 items."""
    items, covered = 40, 0.0
    for gains in range(items + 1):
        for losses in range(items - gains + 1):
            low, high = score_interval(gains, losses, items, Z95)
            if low <= gain - loss <= high:
                ways = comb(items, gains) * comb(items - gains, losses)
                covered += ways * gain**gains * loss**losses * (1 - gain - loss) ** (items - gains - losses)
    assert covered >= 0.935
    assert covered <= 0.99


def test_at_half_confidence_one_side_is_the_estimate() -> None:
    low, _ = score_interval(12, 4, 100, float(stats.norm.ppf(0.5)))
    assert low == pytest.approx(0.08, abs=1e-6)

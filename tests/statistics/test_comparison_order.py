"""The order of comparisons is random and proportional by category."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_worker.statistics.comparison_order import comparison_order


@settings(deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["code", "facts", "reasoning"]), max_size=60), st.integers(0, 2**31 - 1))
def test_every_prefix_is_proportional_by_category(categories: list[str], seed: int) -> None:
    order = comparison_order(categories, seed)
    assert sorted(order) == list(range(len(categories)))
    totals, seen = Counter(categories), Counter[str]()
    for taken, index in enumerate(order, start=1):
        seen[categories[index]] += 1
        for category, total in totals.items():
            assert abs(seen[category] - total * taken / len(order)) <= len(totals)


def test_a_small_category_is_spread_over_the_whole_order() -> None:
    order = comparison_order(["small"] * 10 + ["large"] * 90, seed=4)
    places = [place for place, index in enumerate(order) if index < 10]
    assert [place // 10 for place in places] == list(range(10))


def test_another_seed_is_another_order() -> None:
    categories = ["code"] * 30 + ["facts"] * 30
    assert comparison_order(categories, 1) == comparison_order(categories, 1)
    assert comparison_order(categories, 1) != comparison_order(categories, 2)


def test_the_first_comparisons_are_any_prompts() -> None:
    first = Counter(comparison_order(["only"] * 10, seed)[0] for seed in range(400))
    assert len(first) == 10
    assert max(first.values()) == pytest.approx(40, abs=25)

"""How often the gate winRate promotes, and after how many comparisons: simulated runs of its anytime-valid test.

One line for each true win rate: the table of docs/gates.md. `--prompts`: as many held-out prompts as there are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from alignment_worker.statistics.betting import head_to_head
from alignment_worker.statistics.comparison_order import comparison_order

LEAST, MOST, CONFIDENCE = 100, 1000, 0.95
CATEGORIES = {"code": 0.8, "facts": 0.3, "reasoning": 0.3}

Scores = Callable[[np.random.Generator, int], list[float]]


class Case(NamedTuple):
    """A candidate, as the scores that its comparisons get."""

    name: str
    scores: Scores
    equal: bool = False


def wins(rate: float, ties: float = 0.0) -> Scores:
    """`rate`: the win rate, a tie being half a win; `ties`: their share."""
    won = rate - ties / 2

    def draw(random: np.random.Generator, count: int) -> list[float]:
        scores: list[float] = random.choice([1.0, 0.5, 0.0], count, p=[won, ties, 1 - won - ties]).tolist()
        return scores

    return draw


def by_category(random: np.random.Generator, count: int) -> list[float]:
    """Better in two fifths of the prompts, worse in the rest, in the order proportional by category."""
    named = ["code"] * (2 * count // 5) + ["facts"] * (3 * count // 10) + ["reasoning"] * (3 * count // 10)
    order = comparison_order(named, int(random.integers(2**31)))
    return [float(random.random() < CATEGORIES[named[index]]) for index in order]


CASES = [
    Case("50 % (a coin)", wins(0.5), equal=True),
    Case("50 %, six of ten are ties", wins(0.5, 0.6), equal=True),
    Case("50 %: 80 / 30 / 30 % by category", by_category, equal=True),
    *(Case(f"{percent} %", wins(percent / 100)) for percent in (55, 58, 60, 65, 70)),
    Case("55 %, half are ties", wins(0.55, 0.5)),
    Case("60 %, half are ties", wins(0.60, 0.5)),
]


def simulate(case: Case, runs: int, prompts: int) -> tuple[float, list[int]]:
    """The share of runs that promote, and each run's number of comparisons."""
    random = np.random.default_rng(20)
    promoted, used = 0, []
    for _ in range(runs):
        scores = case.scores(random, prompts)
        result = head_to_head(scores, [True] * len(scores), 50, LEAST, MOST, CONFIDENCE)
        promoted += result.overall.low is not None and result.overall.low > 50
        used.append(result.used)
    return promoted / runs, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=600, help="of an equal model; half as many of a better one"
    )
    parser.add_argument("--prompts", type=int, default=MOST)
    options = parser.parse_args()
    print("| true win rate | promoted | comparisons, median | 90th percentile |\n| --- | --- | --- | --- |")
    for case in CASES:
        promoted, used = simulate(case, options.runs if case.equal else options.runs // 2, options.prompts)
        middle, most = np.percentile(used, [50, 90])
        print(f"| {case.name} | {100 * promoted:.1f} % | {middle:,.0f} | {most:,.0f} |", flush=True)


if __name__ == "__main__":
    main()

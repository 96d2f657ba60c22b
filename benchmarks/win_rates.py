"""How often the gate winRate promotes, and after how many comparisons: simulated runs of its anytime-valid test.

One line for each true win rate: the table of docs/gates.md, beside a test of fixed size on the same scores.
`--prompts`: as many held-out prompts as there are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from alignment_worker.statistics.betting import RATES, WinRate, head_to_head
from alignment_worker.statistics.comparison_order import comparison_order

LEAST, MOST, CONFIDENCE = 100, 1000, 0.95
FIXED = 805  # comparisons: a one-sided t-test of 2.5 % finds 55 % four times of five, where there are no ties
CHECKED = 50  # runs of each line
BESIDE = RATES[(RATES > 0.499) & (RATES < 0.501)]
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


class Found(NamedTuple):
    """Shares of runs that promote, and each run's number of comparisons."""

    promoted: float
    by_fixed: float
    used: list[int]


def simulate(case: Case, runs: int, prompts: int) -> Found:
    random = np.random.default_rng(20)
    promoted, by_fixed, used = 0, 0, []
    for run in range(runs):
        scores = case.scores(random, prompts)
        passed, count = compared(scores)
        if run < CHECKED:
            check(scores, passed, count)
        promoted += passed
        by_fixed += bool(stats.ttest_1samp(scores[:FIXED], 0.5, alternative="greater").pvalue < 0.025)
        used.append(count)
    return Found(promoted / runs, by_fixed / runs, used)


def compared(scores: list[float]) -> tuple[bool, int]:
    """Whether it passes, and after how many comparisons; no answer is longer.

    Only the rates beside 50 % are tested, for no others decide: that takes a tenth of the time.
    """
    rate, count = WinRate(CONFIDENCE, BESIDE), 0
    for score in scores[:MOST]:
        rate.update(score)
        count += 1
        if count >= LEAST and rate.decided(0.5):
            break
    return rate.bounds()[0] > 0.5, count


def check(scores: list[float], passed: bool, count: int) -> None:
    """By the function that the stage compare calls, with all rates. Raises SystemExit if it differs."""
    result = head_to_head(scores, [True] * len(scores), 50, LEAST, MOST, CONFIDENCE)
    assert result.overall.low is not None
    if (result.overall.low > 50, result.used) != (passed, count):
        raise SystemExit(f"passed {passed} after {count}, but by all rates {result}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=10_000, help="of an equal model; a tenth of them of a better one"
    )
    parser.add_argument("--prompts", type=int, default=MOST)
    options = parser.parse_args()
    print(f"| true win rate | promoted | by {FIXED} fixed | comparisons, mean | median | 90th percentile |")
    print("| --- | --- | --- | --- | --- | --- |")
    for case in CASES:
        found = simulate(case, options.runs if case.equal else options.runs // 10, options.prompts)
        counts = (np.mean(found.used), *np.percentile(found.used, [50, 90]))
        shares = f"{100 * found.promoted:.1f} % | {100 * found.by_fixed:.1f} %"
        print(f"| {case.name} | {shares} | {' | '.join(f'{count:,.0f}' for count in counts)} |", flush=True)


if __name__ == "__main__":
    main()

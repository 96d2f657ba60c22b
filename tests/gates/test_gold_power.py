"""What a gold set can show, told beforehand: against the gate itself, on candidates that are drawn."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from alignment_api.cycle import GoldCategory, GoldSetGate
from alignment_api.gates import Verdict
from alignment_api.measurements import GOLD, Measurement
from alignment_operator.gates import gold_set
from alignment_operator.gates.gold_power import power
from alignment_worker.statistics.paired_accuracy import paired_accuracy

CONFIDENCE = 0.95


def drawn(items: int, seed: int) -> Measurement:
    """Of an equal candidate, as the worker measures it: a tenth of the items change, to either side."""
    draw = random.Random(seed)
    before = [[draw.random() < 0.5] for _ in range(items)]
    after = [[not flag] if draw.random() < 0.1 else [flag] for (flag,) in before]
    return paired_accuracy(before, after, CONFIDENCE, seed)


@pytest.mark.parametrize(("items", "categories"), [(40, 1), (100, 1), (300, 3)])
def test_it_foretells_how_often_an_equal_candidate_is_held_or_refused(items: int, categories: int) -> None:
    limits, runs = GoldSetGate(), 400
    told = power("facts", items, limits, CONFIDENCE, categories)
    verdicts = []
    for run in range(runs):
        measured = {f"c{number}": {GOLD: drawn(items, 1000 * run + number)} for number in range(categories)}
        verdicts.append(gold_set.judge(limits, measured, CONFIDENCE).verdict)
    refused = 1 - (1 - told.refused) ** categories
    held = (1 - told.refused) ** categories - (1 - told.refused - told.held) ** categories
    for verdict, share in ((Verdict.FAILED, refused), (Verdict.INCONCLUSIVE, held)):
        count = sum(found is verdict for found in verdicts)
        assert stats.binomtest(count, runs, min(1.0, share)).pvalue > 0.001


def test_a_handful_of_items_holds_everything_and_many_nothing() -> None:
    few, many = (power("facts", items, GoldSetGate(), CONFIDENCE, 1) for items in (10, 2000))
    assert few.held > 0.99
    assert many.held < 0.001
    assert few.detectable > 30
    assert many.detectable < 2


def test_to_rule_a_drop_out_takes_many_more() -> None:
    limits = GoldSetGate(mode="NonInferior")
    assert power("facts", 300, limits, CONFIDENCE, 1).held > 0.5
    assert power("facts", 3000, limits, CONFIDENCE, 1).held < 0.1


def test_it_takes_the_limit_of_the_category_and_leaves_out_what_is_measured_against_m0() -> None:
    strict = GoldCategory(name="facts", max_drop_points=0)
    limits = GoldSetGate(max_drop_points=50, max_drop_from_initial_points=3, categories=[strict])
    plain = GoldSetGate(max_drop_points=0)
    assert power("facts", 300, limits, CONFIDENCE, 2) == power("facts", 300, plain, CONFIDENCE, 2)
    assert (
        power("facts", 300, limits, CONFIDENCE, 2).refused > power("code", 300, limits, CONFIDENCE, 2).refused
    )

"""What is measured of answers that are there, and in which direction."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment_api import measurements as names
from alignment_api.cycle import GoldSet, HeldOutPrompts
from alignment_api.stage import EvaluateParameters
from alignment_worker.answers import Answers, Questions
from alignment_worker.evaluate import Measured
from alignment_worker.generate import Completion
from alignment_worker.rows import Row

PROMPTS = 20


def said(ids: list[list[int]], right: bool, dependence: float, entropy: float, truncated: bool) -> Answers:
    """One answer a prompt; the same to every gold item."""
    held_out = [Completion(one, [-1.0] * len(one), [entropy] * len(one), truncated) for one in ids]
    return Answers(
        gold_texts=[[""]] * PROMPTS,
        gold_right=[[right]] * PROMPTS,
        held_out=held_out,
        held_out_texts=[""] * PROMPTS,
        dependence=[dependence] * PROMPTS,
    )


CANNED = said([[1, 2, 3, 4]] * PROMPTS, right=False, dependence=1, entropy=0.5, truncated=True)
VARIED = said([[n, n + 1] for n in range(PROMPTS)], right=True, dependence=3, entropy=2, truncated=False)


def measured(candidate: Answers, incumbent: Answers, initial: Answers) -> Measured:
    rows = [Row(number, f"p{number}", "a", "Exact", "sums") for number in range(PROMPTS)]
    uri, file = "file:///x", Path("x")
    parameters = EvaluateParameters(
        gold_set=GoldSet(uri=uri),
        held_out_prompts=HeldOutPrompts(uri=uri),
        temperature=1,
        top_p=1,
        confidence_percent=95,
    )
    questions = Questions(rows, rows, file, file, list(range(PROMPTS)), parameters, python=False, seed=0)
    return Measured(questions, {"candidate": candidate, "incumbent": incumbent, "initial": initial}, 0.95)


def test_a_worse_candidate_is_measured_as_worse_than_either() -> None:
    for incumbent, initial in ((VARIED, CANNED), (CANNED, VARIED)):
        found = measured(CANNED, incumbent, initial)
        overall, sums = found.overall(), found.by_category()["sums"]
        worse, worse_than_initial = float(incumbent is VARIED), float(initial is VARIED)
        estimates = {
            names.GOLD_POOLED: -100 * worse,
            names.LENGTH_RATIO: 1 + worse,
            names.LENGTH_RATIO_FROM_INITIAL: 1 + worse_than_initial,
            names.TRUNCATED_SHARE: 100,
            names.TRUNCATED_CHANGE: 100 * worse,
            names.CANDIDATE_TOKENS: 4,
            names.INCUMBENT_TOKENS: 4 - 2 * worse,
            names.CANDIDATE_ENTROPY: 0.5,
            names.INCUMBENT_ENTROPY: 0.5 + 1.5 * worse,
            names.DISTINCT2_DROP: 95 * worse,
            names.DISTINCT2_DROP_FROM_INITIAL: 95 * worse_than_initial,
            names.IDENTICAL_CHANGE: 100 * worse,
            names.PROMPT_DEPENDENCE_CHANGE: -2 * worse,
            names.PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL: -2 * worse_than_initial,
        }
        assert {name: value.estimate for name, value in overall.items()} == pytest.approx(estimates)
        assert sums[names.GOLD].estimate == -100 * worse
        assert sums[names.GOLD_FROM_INITIAL].estimate == -100 * worse_than_initial
        assert sums[names.GOLD_ACCURACY].estimate == 0

"""The part of `make scenarios` that every test run affords: trials that end early, resampling, the table."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.scenarios import judges, planted
from tests.scenarios.resample import material, measured, resampled
from tests.scenarios.scenarios import HEALTHY, HELD, PROMOTED, REFUSED, SCENARIOS, Scenario, Spec
from tests.scenarios.table import Ended, Row, luck, problems, table
from tests.scenarios.trial import Trial, manifests, trial

DIGEST = "sha256:" + 64 * "a"
BY_NAME = {each.name: each for each in SCENARIOS}
RECORDED = BY_NAME["5 % poisoned pairs"]
Right = Callable[
    [str, int], tuple[bool, bool]
]  # of a category and a number: the candidate's, the incumbent's answer


@pytest.mark.parametrize("name", ["contaminated prompts", "judge says nonsense"])
def test_a_trial_that_ends_early_ends_as_the_scenario_says(tmp_path: Path, name: str) -> None:
    scenario = BY_NAME[name]

    def smaller(spec: Spec) -> None:
        scenario.edit(spec)
        spec["prompts"]["perIteration"] = 8

    small = replace(scenario, edit=smaller)
    done = trial(small, 0, tmp_path)
    assert done.outcome in scenario.right
    assert done.reason in scenario.reasons
    assert not measured(done)
    kept = done.folder / "result.json"
    written = kept.stat().st_mtime_ns
    assert trial(small, 0, tmp_path) == done, "what was run is not run again"
    assert kept.stat().st_mtime_ns == written


def kept(folder: Path, scenario: Scenario, right: Right) -> Trial:
    """A trial of two categories, 150 held-out prompts and 100 gold items each, as `alignctl run` leaves it."""
    draw = random.Random(0)
    held_out: list[planted.Row] = []
    gold: list[planted.Row] = []
    for category in ("sums", "facts"):
        for number in range(150):
            row = {
                "prompt": f"{category} {number}?",
                "answer": "yes",
                "grader": "Exact",
                "category": category,
                "line": len(held_out) + 1,
            }
            sides = zip(("candidate", "incumbent"), right(category, number), strict=True)
            held_out.append(
                row | {side: answer("yes" if is_right else "no", draw) for side, is_right in sides}
            )
            if number < 100:
                flags = zip(("candidate", "incumbent"), right(category, number), strict=True)
                gold.append(row | {side: {"texts": [""], "right": [flag]} for side, flag in flags})
    spec = manifests(scenario, 0)[-1]["spec"]
    stages = []
    for stage, files in {
        "train": {},
        "evaluate": {"answers.jsonl": held_out, "gold.jsonl": gold},
        "compare": {},
    }.items():
        place = folder / "store" / stage
        place.mkdir(parents=True)
        for name, rows in files.items():
            planted.write(place / name, rows)
        located = {"uri": f"pvc://quickstart-store/{stage}", "digest": DIGEST}
        stages.append({"name": stage, "result": {"manifest": located, "model": located}})
    evaluation = spec["evaluation"]
    configs = {
        "evaluate": {name: evaluation[name] for name in ("goldSet", "heldOutPrompts")}
        | {"temperature": 1.0, "topP": 1.0},
        "compare": {"comparison": evaluation["comparison"], "minPercent": 50.0},
    }
    for stage, parameters in configs.items():
        job = folder / "state" / "jobs" / f"scenario-1-{stage}-0"
        job.mkdir(parents=True)
        config = {
            "contractVersion": 1,
            "ownerUid": "1",
            "iteration": 1,
            "stage": stage,
            "seed": 1,
            "inputs": {},
            "output": f"pvc://quickstart-store/{stage}",
            "parameters": {"stage": stage, "confidencePercent": 95.0, **parameters},
        }
        (job / "stage.json").write_text(json.dumps(config))
    iteration = {"candidate": located, "inputs": {}, "stages": stages, "reason": ""}
    return Trial(scenario, 0, folder, "", PROMOTED, {"spec": spec, "status": {"iteration": iteration}})


def answer(text: str, draw: random.Random) -> dict[str, Any]:
    return {
        "ids": [draw.randrange(3, 700) for _ in range(8)],
        "text": text,
        "truncated": False,
        "entropy": 0.3,
        "dependence": draw.gauss(15, 3),
    }


def ends(of: Trial, count: int = 12) -> set[Ended]:
    return set(resampled(material(of), count, 0))


def test_a_better_candidate_is_promoted_by_every_set(tmp_path: Path) -> None:
    better = kept(tmp_path, RECORDED, lambda _, number: (number % 10 > 0, number % 2 > 0))
    assert measured(better)
    assert ends(better) == {Ended(PROMOTED, "AllGatesPassed")}


def test_a_candidate_that_forgot_one_category_is_refused_by_every_set(tmp_path: Path) -> None:
    worse = kept(tmp_path, RECORDED, lambda of, number: (number % 5 > 0 and of != "facts", number % 2 > 0))
    assert {ended.outcome for ended in ends(worse)} == {REFUSED}


def test_an_equal_model_that_was_lucky_once_is_not_so_in_every_set(tmp_path: Path) -> None:
    def lucky(_: str, number: int) -> tuple[bool, bool]:
        return number % 10 > 2, number % 10 > 6

    gold_alike = kept(tmp_path, replace(RECORDED, equal=True), lucky)
    rates = [ended.outcome for ended in resampled(material(gold_alike), 20, 0)]
    assert rates.count(HELD) > 15, "by chance, as the gate winRate allows"


def test_the_same_seed_draws_the_same_sets(tmp_path: Path) -> None:
    close = material(kept(tmp_path, RECORDED, lambda _, number: (number % 10 > 3, number % 9 > 4)))
    first, again, other = (list(resampled(close, 10, seed)) for seed in (0, 0, 1))
    assert first == again
    assert len({ended.outcome for ended in (*first, *other)}) > 1, "a close one is decided either way"


def test_scripts_judge_in_both_orders() -> None:
    prompt = planted.rows(planted.PROMPTS)[0]["prompt"]
    shares = {
        says: judges.Script(says).share(prompt, f"It is 1. {judges.FLATTERY}", "It is 1.")
        for says in (judges.first, judges.second, judges.tie, judges.nonsense, judges.swayed)
    }
    assert shares.pop(judges.swayed) == 1
    assert set(shares.values()) == {0.5}


def test_the_table_names_what_is_wrong() -> None:
    fine = [Ended(PROMOTED, "AllGatesPassed")]
    lost = [Ended(HELD, "Inconclusive")]
    swapped = BY_NAME["swapped labels"]
    refused = [Ended(REFUSED, "GoldRegression")]
    rows = [Row(HEALTHY, fine * 3, fine * 98 + lost * 2), Row(swapped, refused * 3, refused * 300)]
    assert problems(rows) == []
    assert luck(rows) == ""
    assert luck([Row(BY_NAME["equal model (A/A)"], refused, refused, lost * 49 + fine)]).endswith(
        "1 of 50 sets"
    )
    assert (
        "| healthy | promoted | 3 promoted | 100 | 98 % | 0 | 2 % | 98 % | 2 % | AllGatesPassed, Inconclusive |"
        in (table(rows))
    )
    wrong = [
        Row(HEALTHY, fine * 3, fine * 97 + lost * 3),
        Row(swapped, refused * 2 + fine, refused * 299 + fine),
    ]
    assert problems(wrong) == [
        "healthy: 3 of 100 were not promoted",
        "swapped labels: 2 wrong promotions",
        "swapped labels: a run was promoted, AllGatesPassed",
    ]

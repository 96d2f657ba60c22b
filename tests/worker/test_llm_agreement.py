"""An LLM is checked on people's labels before it judges, and before it compares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignment_api.measurements import COMPARISON_JUDGE_ACCURACY, JUDGE_ACCURACY, ORDER_AGREEMENT
from alignment_api.stage import ExitCode, InputKind, StageConfig
from tests.worker import stages, training
from tests.worker.judge_server import Asked, judge_server, longer, preferred
from tests.worker.stages import Finished
from tests.worker.test_llm_judge import an_llm, compare_config, judge_config, samples


def labels(count: int, *, wrong: int = 0) -> list[dict[str, Any]]:
    """People prefer the longer answer, but for the first `wrong` pairs."""
    both = ("yes indeed", "no")
    return [
        {"prompt": f"p{number}", "chosen": both[number < wrong], "rejected": both[number >= wrong]}
        for number in range(count)
    ]


def checked(folder: Path, config: StageConfig, pairs: list[dict[str, Any]] | None) -> Callable[[], Finished]:
    """The stage with a dataset of such labels, or without any."""
    if pairs is not None:
        dataset = training.sealed(folder / "people", "pairs.jsonl", pairs)
        people = {"dataset/people": stages.an_input(dataset, InputKind.STAGE)}
        config = config.model_copy(update={"inputs": config.inputs | people})
    return lambda: stages.run(folder / "job", config)


def judged(
    folder: Path, answer: Callable[[Asked], str], pairs: list[dict[str, Any]] | None
) -> tuple[Finished, int]:
    """The stage judge, and how many requests it took: two of them for its own samples."""
    with judge_server(answer) as server:
        done = checked(folder, judge_config(folder, samples("aa", "a"), an_llm(server)), pairs)()
        return done, len(server.asked)


def test_its_share_of_what_people_preferred_is_reported(tmp_path: Path) -> None:
    done, requests = judged(tmp_path, longer, labels(80, wrong=8))
    assert done.code == 0, done.failure
    found = done.result.measurements[JUDGE_ACCURACY]
    assert (found.estimate, found.n) == (90, 80)
    assert found.low is not None
    assert 80 < found.low < 90
    counts = done.result.counts
    assert (counts["unseenPairs"], counts["unseenPairsMissing"]) == (80, 0)
    assert requests == counts["judgements"] == 162


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (longer, 60),
        (longer, 26),
        (lambda _: preferred("a"), 0),
        (lambda _: preferred("tie"), 0),
        (lambda asked: preferred("a" if len(asked.data["answer_a"]) < 5 else "b"), 0),
    ],
    ids=["the other way round", "close to a coin", "always the first", "always a tie", "the shorter"],
)
def test_one_that_is_no_better_than_chance_stops_the_stage_before_it_judges(
    tmp_path: Path, answer: Callable[[Asked], str], wrong: int
) -> None:
    done, requests = judged(tmp_path, answer, labels(60, wrong=wrong))
    assert (done.code, done.failure.reason) == (ExitCode.JUDGE_STALE, "JudgeStale")
    assert "The LLM of spec.judge prefers the chosen answer in " in done.failure.message
    assert "of 60 pairs that it has not seen. The lower end must be above 50 %" in done.failure.message
    assert "Name another model in spec.judge.llm, or change the rubric." in done.failure.message
    assert requests == 120


def test_too_few_labels_show_nothing_and_that_is_said(tmp_path: Path) -> None:
    done, _ = judged(tmp_path, lambda _: preferred("a"), labels(49))
    assert done.code == 0, done.failure
    assert done.result.counts["unseenPairsMissing"] == 1
    assert done.result.measurements[JUDGE_ACCURACY].estimate == 50


def test_at_most_200_are_asked_about_and_without_any_none(tmp_path: Path) -> None:
    done, requests = judged(tmp_path / "many", longer, labels(230))
    assert done.result.counts["unseenPairs"] == 200
    assert requests == 402
    done, requests = judged(tmp_path / "none", longer, None)
    assert done.result.counts["unseenPairs"] == 0
    assert JUDGE_ACCURACY not in done.result.measurements
    assert requests == 2


@pytest.mark.parametrize(("wrong", "code"), [(0, 0), (60, ExitCode.JUDGE_STALE)])
def test_a_judge_that_compares_is_checked_too(tmp_path: Path, wrong: int, code: int) -> None:
    with judge_server(longer) as server:
        config = compare_config(tmp_path, [("candidate", "no")] * 6, an_llm(server))
        done = checked(tmp_path, config, labels(60, wrong=wrong))()
    assert done.code == code
    if code:
        assert "The LLM of spec.evaluation.comparison.judge prefers" in done.failure.message
    else:
        assert done.result.measurements[COMPARISON_JUDGE_ACCURACY].estimate == 100
        assert done.result.counts["comparisonUnseenPairs"] == 60


def in_categories(pairs: list[dict[str, Any]], *categories: object) -> list[dict[str, Any]]:
    """By turns."""
    return [{**pair, "category": categories[n % len(categories)]} for n, pair in enumerate(pairs)]


def first_of_code(asked: Asked) -> str:
    """Prefers the longer answer, but of code always what it is shown first."""
    return preferred("a") if "code" in asked.data["prompt"] else longer(asked)


def test_a_judge_is_judged_in_each_category_by_people_and_by_itself(tmp_path: Path) -> None:
    pairs = in_categories(labels(80), "facts", "code", 7, None)
    for pair in pairs:
        pair["prompt"] += str(pair["category"])
    done, _ = judged(tmp_path, first_of_code, pairs)
    assert done.code == 0, done.failure
    found = done.result.by_category
    assert {category: set(measured) for category, measured in found.items()} == {
        "facts": {JUDGE_ACCURACY, ORDER_AGREEMENT},
        "code": {JUDGE_ACCURACY, ORDER_AGREEMENT},
    }
    told = {
        category: (measured[JUDGE_ACCURACY].estimate, measured[ORDER_AGREEMENT].estimate)
        for category, measured in found.items()
    }
    assert told == {"facts": (100, 100), "code": (50, 0)}
    assert found["code"][ORDER_AGREEMENT].n == 20
    assert found["code"][ORDER_AGREEMENT].high == pytest.approx(16.84, abs=0.01)


def test_one_that_goes_against_people_in_a_category_stops_the_stage(tmp_path: Path) -> None:
    pairs = in_categories(labels(90, wrong=0), "facts", "code", "poems")
    for pair in pairs[:30]:
        if pair["category"] == "code":
            pair["chosen"], pair["rejected"] = pair["rejected"], pair["chosen"]
    done, _ = judged(tmp_path / "some", longer, pairs)
    assert done.code == 0, "10 of 30 pairs are not shown to be more than half"
    for pair in pairs[30:]:
        if pair["category"] == "code":
            pair["chosen"], pair["rejected"] = pair["rejected"], pair["chosen"]
    done, requests = judged(tmp_path / "all", longer, pairs)
    assert (done.code, done.failure.reason) == (ExitCode.JUDGE_STALE, "JudgeStale")
    assert "goes against people in some category" in done.failure.message
    assert "it prefers the chosen answer in 'code': 0 of 30 (p = 9.3e-10)" in done.failure.message
    assert requests == 180


def test_more_categories_than_a_report_holds_are_counted(tmp_path: Path) -> None:
    pairs = in_categories(labels(100), *("x" * 30 + str(n) for n in range(19)), "most", "most")
    done, _ = judged(tmp_path, longer, pairs)
    assert done.code == 0, done.failure
    assert "most" in done.result.by_category
    assert sum(map(len, done.result.by_category)) <= 320
    assert done.result.counts["categoriesLeftOut"] == 20 - len(done.result.by_category)


def test_a_comparison_reports_the_categories_of_the_held_out_prompts(tmp_path: Path) -> None:
    with judge_server(lambda _: preferred("a")) as server:
        config = compare_config(tmp_path, [("candidate", "no")] * 6, an_llm(server), categories="ab")
        done = stages.run(tmp_path / "job", config)
    found = done.result.by_category
    assert {category: measured[ORDER_AGREEMENT].n for category, measured in found.items()} == {"a": 3, "b": 3}
    assert {measured[ORDER_AGREEMENT].estimate for measured in found.values()} == {0}

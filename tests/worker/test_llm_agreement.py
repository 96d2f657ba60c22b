"""An LLM is checked on people's labels before it judges, and before it compares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignment_api.measurements import COMPARISON_JUDGE_ACCURACY, JUDGE_ACCURACY
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

"""Comparisons of answers that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment_api.cycle import Comparison, Judge, PythonGrader
from alignment_api.judges import Verifier
from alignment_api.measurements import REWARD_WIN_RATE, WIN_RATE
from alignment_api.stage import CompareParameters, ExitCode, InputKind
from alignment_worker.compare import is_longer
from tests.worker import stages, training
from tests.worker.loop import VERIFIER
from tests.worker.stages import Finished


@pytest.mark.parametrize(
    ("candidate", "incumbent", "longer"), [(12, 10, False), (13, 10, True), (5, 10, False)]
)
def test_longer_is_over_a_fifth_longer(candidate: int, incumbent: int, longer: bool) -> None:
    row = {"candidate": {"ids": [1] * candidate}, "incumbent": {"ids": [1] * incumbent}}
    assert is_longer(row) is longer


def compared(folder: Path, said: list[tuple[str, str]], **changed: Any) -> Finished:
    """Answers of candidate and incumbent, judged by whether they are `yes`."""
    rows = [
        {"prompt": f"p{line}", "answer": "yes", "grader": "Exact", "line": line}
        | {
            name: {"ids": [1], "text": text}
            for name, text in zip(("candidate", "incumbent"), both, strict=True)
        }
        for line, both in enumerate(said, start=1)
    ]
    answers = training.sealed(folder / "answers", "answers.jsonl", rows)
    settings: dict[str, Any] = {"min_percent": 50, "confidence_percent": 95} | changed
    parameters = CompareParameters(comparison=Comparison(judge=VERIFIER, min_comparisons=5), **settings)
    inputs = {"answers": stages.an_input(answers, InputKind.STAGE)}
    return stages.run(folder / "job", stages.config(folder / "compare", inputs, parameters))


def test_the_candidate_wins_by_its_own_answers_and_equals_tie(tmp_path: Path) -> None:
    done = compared(tmp_path, [("yes", "no"), ("no", "yes"), ("yes", "yes"), ("no", "no"), ("yes", "no")])
    counts = done.result.counts
    assert (counts["wins"], counts["losses"], counts["ties"]) == (2, 1, 2)
    won = {
        row["line"]: (row["candidate"], row["incumbent"], row["won"])
        for row in done.rows("comparisons.jsonl")
    }
    assert won == {1: (1, 0, 1), 2: (0, 1, 0), 3: (1, 1, 0.5), 4: (0, 0, 0.5), 5: (1, 0, 1)}
    assert done.result.measurements[WIN_RATE].estimate == 60


def test_it_goes_on_until_the_asked_win_rate_is_decided(tmp_path: Path) -> None:
    used = []
    for percent in (50, 90):
        done = compared(tmp_path / str(percent), [("yes", "no")] * 200, min_percent=percent)
        used.append(done.result.counts["comparisons"])
        assert len(done.rows("comparisons.jsonl")) == done.result.measurements[WIN_RATE].n == used[-1]
    assert used[0] < 20
    assert 50 < used[1] < 100


@pytest.mark.parametrize("allowed", [True, False])
def test_a_verifier_runs_what_the_models_wrote_where_that_is_allowed(tmp_path: Path, allowed: bool) -> None:
    row = {"answer": "assert double(4) == 8", "grader": "Python"}
    said = {
        "candidate": "```python\ndef double(x): return 2 * x\n```",
        "incumbent": "def double(x): return x ** 2",
    }
    both = {name: {"ids": [1], "text": text} for name, text in said.items()}
    rows = [row | both | {"prompt": f"p{line}", "line": line} for line in range(1, 13)]
    answers = training.sealed(tmp_path / "answers", "answers.jsonl", rows)
    parameters = CompareParameters(
        comparison=Comparison(judge=VERIFIER, min_comparisons=12), min_percent=50, confidence_percent=95
    )
    inputs = {"answers": stages.an_input(answers, InputKind.STAGE)}
    config = stages.config(tmp_path / "compare", inputs, parameters)
    grader = PythonGrader() if allowed else None
    done = stages.run(tmp_path / "job", config.model_copy(update={"python_grader": grader}))
    if allowed:
        assert (done.result.counts["wins"], done.result.counts["ties"]) == (12, 0)
    else:
        assert done.code == ExitCode.INVALID_CONFIG
        assert "set spec.evaluation.pythonGrader: {}" in done.failure.message


def test_the_training_judge_compares_no_more_than_was_compared(tmp_path: Path) -> None:
    done = compared(tmp_path, [("yes", "no")] * 200, judge=Judge(verifier=Verifier()))
    assert done.result.measurements[REWARD_WIN_RATE].n == done.result.counts["comparisons"] < 20

"""`python -m alignment_worker.noise`: both stages of an A/A run in one pod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment_api.gates import Gate, Verdict
from alignment_api.iteration_report import unframed
from alignment_api.noise import NoiseConfig, NoiseResults
from alignment_api.stage import ExitCode, Stage
from alignment_operator.observed import Owner
from alignment_operator.plan.noise import Noise
from alignment_worker.noise import main
from tests.operator.plan_world import cycle_spec
from tests.worker import tiny


def noise(folder: Path, gold: list[dict[str, Any]]) -> Noise:
    def uri(path: Path) -> str:
        return f"file://{path}"

    answers = {"maxNewTokens": 8}
    spec = cycle_spec(
        policy={"model": uri(tiny.llama(folder / "m0"))},
        judge={"verifier": {}},
        evaluation={
            "goldSet": {"uri": uri(tiny.write_rows(folder / "gold.jsonl", gold)), **answers},
            "heldOutPrompts": {
                "uri": uri(tiny.write_rows(folder / "heldout.jsonl", tiny.held_out_rows())),
                **answers,
            },
            "comparison": {"minComparisons": 8},
        },
        gates={"winRate": {}, "collapse": {}},
    )
    owner = Owner("team", "support", "uid-1", 1, "1", {})
    return Noise(owner, spec, None, None, uri(folder / "out"), 7)


def config_of(folder: Path, run: Noise) -> list[str]:
    file = folder / "config.json"
    file.write_text(json.dumps(NoiseConfig(stages=run.configs).to_wire()))
    return ["--config", str(file)]


def test_both_stages_run_and_what_they_report_is_all_that_the_gates_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noise(tmp_path, tiny.gold_rows())
    assert main(config_of(tmp_path, run)) == 0
    results = NoiseResults.model_validate_json(unframed(capsys.readouterr().out.encode())).results
    assert list(results) == [Stage.EVALUATE, Stage.COMPARE]
    assert results[Stage.COMPARE].inputs["answers"] == results[Stage.EVALUATE].manifest.digest
    assert results[Stage.COMPARE].counts["comparisons"] == 12
    verdicts = {gate.name: gate.verdict for gate in run.verdicts(results)}
    assert set(verdicts) == {Gate.GOLD_SET, Gate.LENGTH_DRIFT, Gate.COLLAPSE, Gate.WIN_RATE}
    assert Verdict.ERROR not in verdicts.values()


def test_a_stage_that_fails_ends_it_with_its_exit_code_and_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noise(tmp_path, [{"prompt": "p", "grader": "Exact"}])
    assert main(config_of(tmp_path, run)) == ExitCode.INVALID_ROW
    said = capsys.readouterr()
    assert "alignment-report" not in said.out
    assert said.err.splitlines()[-1].startswith("error: stage evaluate failed: InvalidRow: ")
    assert not list((tmp_path / "out").rglob("manifest.json"))


def test_what_is_no_config_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"stages": [], "more": 1}')
    assert main(["--config", str(file)]) == ExitCode.INVALID_CONFIG
    assert capsys.readouterr().err.startswith("error: not the config of an A/A run: more: ")

"""`alignctl noise`: the incumbent against itself, and nothing else changes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.gates import Gate, GateResult, Verdict
from alignment_api.iteration_report import Measured
from alignment_api.measurements import Measurement
from alignment_api.stage import Located, Stage
from alignment_operator.cli.noise import within_the_noise
from alignment_operator.observed import Owner
from alignment_operator.plan.noise import Noise, alarms
from tests.local.commands import Alignctl
from tests.local.test_secrets import SIGNING
from tests.operator.plan_world import cycle_spec

Manifest = dict[str, Any]
StandIn = Callable[..., Path]
DIGEST = "sha256:" + "1" * 64


def noise(alignctl: Alignctl, *arguments: str) -> subprocess.CompletedProcess[str]:
    return alignctl.ended("noise", "-f", str(alignctl.manifest), *arguments)


def planned(spec: AlignmentCycleSpec, incumbent: Located | None = None) -> Noise:
    owner = Owner("team", "support", "uid-1", 1, "1", {})
    return Noise(owner, spec, incumbent, None, "file:///noise", 7)


def test_an_equal_model_is_measured_and_nothing_is_left(alignctl: Alignctl, stand_in: StandIn) -> None:
    done = noise(alignctl, "--seed", "5")
    assert done.returncode == 0, done.stderr
    assert "assistant: pvc://models/m0 against itself, seed 5" in done.stdout
    assert "[0.95, 1.05]" in done.stdout
    assert "No gate took the noise for more." in done.stdout
    assert done.stderr.splitlines() == ["evaluate: started"]
    assert not (alignctl.state / "objects").exists()
    assert not (alignctl.manifest.parent / "models" / "cycles").exists()
    assert sorted(path.name for path in stand_in().glob("*.ran")) == ["evaluate.ran"]


def test_after_a_promotion_it_is_the_promoted_one_and_status_stays(
    alignctl: Alignctl, stand_in: StandIn
) -> None:
    assert alignctl.ended("run", "-f", str(alignctl.manifest)).returncode == 0
    before = alignctl.cycle()
    done = noise(alignctl)
    assert done.returncode == 0, done.stderr
    assert "/iterations/1/train/model against itself, seed " in done.stdout
    assert alignctl.cycle() == before


def test_the_signing_key_is_not_asked_for(alignctl: Alignctl, cycle: Manifest, stand_in: StandIn) -> None:
    cycle["spec"]["promotion"] = {"signature": SIGNING}
    alignctl.manifest.write_text(yaml.safe_dump(cycle))
    done = noise(alignctl)
    assert done.returncode == 0, done.stderr


def test_a_gate_that_refuses_an_equal_model_is_named_and_is_3(alignctl: Alignctl, stand_in: StandIn) -> None:
    stand_in("evaluate", {"lengthRatio": 2.0})
    done = noise(alignctl)
    assert done.returncode == 3
    assert "lengthDrift took noise for more: answers are longer" in done.stdout


def test_a_stage_that_fails_is_1_with_its_words(alignctl: Alignctl, stand_in: StandIn) -> None:
    stand_in(
        "evaluate", {"exit": 65, "failure": {"reason": "InvalidRow", "message": "gold.jsonl:7: no answer"}}
    )
    done = noise(alignctl)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: stage evaluate failed: InvalidRow: gold.jsonl:7: no answer" in done.stderr


def test_a_stage_that_is_killed_is_tried_again(alignctl: Alignctl, stand_in: StandIn) -> None:
    stand_in("evaluate", {"signal": 9})
    assert noise(alignctl).returncode == 0
    assert len((stand_in() / "evaluate.ran").read_text().splitlines()) == 2


def test_a_judge_that_is_not_trained_yet_is_2(alignctl: Alignctl, cycle: Manifest, stand_in: StandIn) -> None:
    cycle["spec"]["reward"] = {"model": "pvc://models/backbone"}
    cycle["spec"]["judge"] = {"rewardModel": {}}
    cycle["spec"]["datasets"] = [{"name": "feedback"}]
    cycle["spec"]["evaluation"]["comparison"] = {"judge": {"verifier": {}}}
    alignctl.manifest.write_text(yaml.safe_dump(cycle))
    done = noise(alignctl)
    assert done.returncode == 2
    assert "spec.reward: each iteration trains its judge anew" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name a cycle on the cluster, or give its manifest with -f"),
        (["assistant", "-f", "cycle.yaml"], "name a cycle on the cluster, or give its manifest with -f"),
        (["assistant"], "--state is for an A/A run here, with -f"),
        (["-f", "cycle.yaml", "-n", "team"], "-n is for an A/A run on a cluster, with NAME"),
    ],
)
def test_it_runs_here_or_on_a_cluster(alignctl: Alignctl, words: list[str], told: str) -> None:
    done = alignctl.ended("noise", *words)
    assert (done.returncode, done.stderr) == (2, f"error: {told}\n")


def test_candidate_and_incumbent_are_one_model_and_the_draws_have_the_seed() -> None:
    promoted = Located(uri="pvc://models/m7", digest=DIGEST)
    run = planned(cycle_spec(), promoted)
    assert run.stages == (Stage.EVALUATE, Stage.COMPARE)
    config = run.config(Stage.EVALUATE, {})
    assert config.inputs["candidate"] == config.inputs["policy"]
    assert (config.inputs["candidate"].uri, config.inputs["candidate"].digest) == (promoted.uri, DIGEST)
    assert (config.seed, config.output) == (7, "file:///noise/iterations/1/evaluate")
    assert set(config.inputs) == {"candidate", "policy", "goldSet", "heldOutPrompts"}
    first = planned(cycle_spec()).config(Stage.EVALUATE, {})
    assert {item.digest for item in first.inputs.values()} == {None}, "the stage finds them"


def test_what_needs_training_is_left_out_and_said() -> None:
    gates: dict[str, Any] = {"contamination": {}, "divergence": {}}
    run = planned(cycle_spec(gates=gates))
    assert run.left_out == [Gate.CONTAMINATION, Gate.DIVERGENCE]
    assert run.config(Stage.EVALUATE, {}).to_wire()["parameters"].get("divergence", []) == []


@pytest.mark.parametrize(
    ("gate", "measured", "told"),
    [
        (Gate.LENGTH_DRIFT, {"most": 1.3}, "below 1.1"),
        (Gate.LENGTH_DRIFT, {"most": 1.3, "least": 0.8}, "below 1.1, above 0.9"),
        (Gate.GOLD_SET, {"least": -2.0}, "above 0.9"),
        (Gate.WIN_RATE, {"least": 50.0}, "below 0.9"),
        (Gate.COLLAPSE, {}, ""),
    ],
)
def test_limits_that_noise_reaches_are_named(gate: Gate, measured: dict[str, float], told: str) -> None:
    value = Measurement(estimate=1.0, low=0.9, high=1.1, n=9)
    assert within_the_noise(gate, Measured(label="x", measurement=value, **measured)) == told
    assert within_the_noise(gate, Measured(label="x", measurement=Measurement(n=0), **measured)) == ""


def test_an_alarm_is_harm_in_an_equal_model_or_its_win() -> None:
    verdicts = [
        (Gate.GOLD_SET, Verdict.INCONCLUSIVE),
        (Gate.LENGTH_DRIFT, Verdict.FAILED),
        (Gate.COLLAPSE, Verdict.PASSED),
        (Gate.WIN_RATE, Verdict.PASSED),
    ]
    gates = tuple(GateResult(name=name, verdict=verdict, limit=50, message="") for name, verdict in verdicts)
    assert [gate.name for gate in alarms(gates)] == [Gate.LENGTH_DRIFT, Gate.WIN_RATE]
    lost = GateResult(name=Gate.WIN_RATE, verdict=Verdict.FAILED, limit=50, message="")
    assert alarms((lost,)) == [], "it refuses an equal model as it should"


def test_an_equal_model_may_win_by_a_limit_below_even_and_must_not_lose_by_it() -> None:
    won, lost = (
        GateResult(name=Gate.WIN_RATE, verdict=verdict, limit=45, message="")
        for verdict in (Verdict.PASSED, Verdict.FAILED)
    )
    assert alarms((won, lost)) == [lost]

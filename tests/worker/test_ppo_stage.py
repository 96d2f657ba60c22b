"""The stage `train` with the method PPO, as a Job runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment_api.cycle import Judge, Lora, Sampling
from alignment_api.judges import RewardModel, Verifier
from alignment_api.ppo import PPO
from alignment_api.stage import (
    ExitCode,
    InputKind,
    OnlineParameters,
    StageConfig,
    StageReport,
    TrainParameters,
)
from alignment_worker import ppo_rollouts, scoring, train_weights
from alignment_worker.scoring import Question
from tests.worker import tiny, training
from tests.worker.test_train_resume import KILLED, STOPPED

ENDS_WITH = "[0-3]$"


def rows(count: int = 10) -> list[dict[str, Any]]:
    return [row | {"answer": ENDS_WITH, "grader": "Regex"} for row in tiny.prompt_rows(count, "write ")]


def config(
    folder: Path,
    output: Path,
    *,
    judge: Judge | None = None,
    sampling: dict[str, Any] | None = None,
    ppo: dict[str, Any] | None = None,
    reference: Path | None = None,
    pairs: list[dict[str, Any]] | None = None,
    **settings: Any,
) -> StageConfig:
    """Batches of 16, eight of them, unless something else is asked for. `pairs`: of a dataset."""
    start, rewarding, prompts = folder / "start", folder / "reward", folder / "prompts.jsonl"
    if not prompts.exists():
        tiny.llama(start)
        tiny.reward_model(rewarding, seed=5)
        tiny.write_rows(prompts, rows())
    judge = judge or Judge(reward_model=RewardModel(uri=rewarding.as_uri(), batch_size=64))
    made = {"learning_rate": 1e-3, "per_device_batch_size": 8, "gradient_accumulation_steps": 2} | settings
    parameters = TrainParameters(
        training=training.training(
            method="PPO",
            epochs=1,
            max_length=64,
            ppo=PPO(**({"total_episodes": 128, "epochs_per_batch": 2} | (ppo or {}))),
            **made,
        ),
        online=OnlineParameters(
            sampling=Sampling(
                **({"completions_per_prompt": 2, "max_new_tokens": 12, "seed": 7} | (sampling or {}))
            ),
            judge=judge,
        ),
    )
    inputs = {
        "start": (start, InputKind.MODEL),
        "reference": (reference or start, InputKind.MODEL),
        "prompts": (prompts, InputKind.CHECKABLE_PROMPTS),
    }
    if judge.reward_model:
        inputs["judge"] = (rewarding, InputKind.REWARD_MODEL)
    if pairs is not None:
        inputs["dataset/people"] = (training.sealed(folder / "people", "pairs.jsonl", pairs), InputKind.STAGE)
    return training.config(output, inputs, parameters)


def finished(made: StageConfig, job: Path) -> training.Finished:
    done = training.finish(made, job)
    assert done.code == 0, done.report.failure
    return done


def test_the_policy_learns_what_the_judge_rewards(tmp_path: Path) -> None:
    done = finished(
        config(
            tmp_path,
            tmp_path / "out",
            judge=Judge(verifier=Verifier()),
            ppo={"total_episodes": 960, "epochs_per_batch": 4},
            learning_rate=3e-3,
            beta=0.02,
        ),
        tmp_path / "job",
    )
    result = done.report.result
    assert result is not None
    measured = {name: value.estimate or 0.0 for name, value in result.measurements.items()}
    assert measured["startReward"] < 0.4
    assert measured["trainReward"] > measured["startReward"] + 0.3
    assert 0 < measured["trainKL"] < 5
    assert result.counts["episodes"] == 960
    assert result.counts["batches"] == 60
    assert "unseenPairs" not in result.counts


def test_each_step_is_logged_and_the_work_is_counted(tmp_path: Path) -> None:
    done = finished(config(tmp_path, tmp_path / "out"), tmp_path / "job")
    assert [row["step"] for row in done.steps] == list(range(1, 17))
    assert [row["batch"] for row in done.steps] == [number for number in range(1, 9) for _ in range(2)]
    assert set(done.steps[0]) >= {
        *("loss", "policyLoss", "valueLoss", "learningRate", "gradientNorm", "reward", "kl", "klFromSampler"),
        *("entropy", "clipFraction", "beta", "length", "truncated"),
    }
    first = done.steps[0]
    assert first["kl"] == pytest.approx(0, abs=1e-6)  # the start is the reference, and has just sampled
    assert first["klFromSampler"] == pytest.approx(0, abs=1e-6)
    assert first["clipFraction"] == 0
    assert done.steps[1]["klFromSampler"] > 1e-6
    assert [row["learningRate"] for row in done.steps][::2] == pytest.approx(
        [1e-3 * (8 - n) / 8 for n in range(8)]
    )
    result = done.report.result
    assert result is not None
    counts = result.counts
    assert (counts["steps"], counts["episodes"], counts["batches"], counts["prompts"]) == (16, 128, 8, 10)
    assert counts["parametersChanged"] > 0.9 * counts["parameters"]
    assert counts["tokens"] == pytest.approx(sum(16 * row["length"] for row in done.steps) / 2)
    assert set(result.measurements) == {"startReward", "trainReward", "trainKL", "trainLoss"}
    assert not (done.folder / "checkpoints").exists()


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    one = finished(config(tmp_path, tmp_path / "a"), tmp_path / "job-a")
    same = finished(config(tmp_path, tmp_path / "b"), tmp_path / "job-b")
    other = finished(config(tmp_path, tmp_path / "c", sampling={"seed": 8}), tmp_path / "job-c")
    assert one.steps == same.steps != other.steps
    assert (one.model / "model.safetensors").read_bytes() == (same.model / "model.safetensors").read_bytes()


def test_how_a_batch_is_cut_for_memory_does_not_matter(tmp_path: Path) -> None:
    small = config(tmp_path, tmp_path / "a", per_device_batch_size=2, gradient_accumulation_steps=8)
    whole = config(tmp_path, tmp_path / "b", per_device_batch_size=16, gradient_accumulation_steps=1)
    for one, other in zip(
        finished(small, tmp_path / "job-a").steps[:4],
        finished(whole, tmp_path / "job-b").steps[:4],
        strict=True,
    ):
        assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize("lora", [None, Lora(rank=4, alpha=8)])
def test_killed_and_started_again_it_ends_as_if_nothing_had_been(lora: Lora | None, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    settings: dict[str, Any] = {
        "lora": lora,
        "checkpoint_every_steps": 5,
        "ppo": {"epochs_per_batch": 5, "kl_control": "Adaptive", "target_kl": 0.02},
    }
    made = config(tmp_path, tmp_path / "killed", **settings)
    words = [sys.executable, "-c", KILLED, "behind", *training.arguments(made, tmp_path / "first")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    died = subprocess.run(words, check=False, capture_output=True, text=True, timeout=600, env=environment)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert (tmp_path / "killed" / "checkpoints" / "step-10" / "manifest.json").exists()
    assert not (tmp_path / "killed" / "checkpoints" / "step-15").exists()

    again = finished(made, tmp_path / "second")
    straight = finished(config(tmp_path, tmp_path / "straight", **settings), tmp_path / "third")
    assert len(again.steps) == 40
    assert again.steps == straight.steps
    assert again.steps[-1]["beta"] != again.steps[0]["beta"]
    assert (again.model / "model.safetensors").read_bytes() == (
        straight.model / "model.safetensors"
    ).read_bytes()
    assert again.report.result is not None
    assert straight.report.result is not None
    assert again.report.result.counts == straight.report.result.counts


def test_told_to_stop_it_stops_and_says_so(tmp_path: Path) -> None:
    made = config(
        tmp_path, tmp_path / "out", checkpoint_every_steps=10, ppo={"epochs_per_batch": 5, "target_kl": 50.0}
    )
    words = [sys.executable, "-c", STOPPED, "behind", *training.arguments(made, tmp_path / "job")]
    stopped = subprocess.run(words, check=False, capture_output=True, text=True, timeout=600)
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    report = StageReport.decode((tmp_path / "job" / "report").read_text())
    assert report.failure is not None
    assert report.failure.reason == "Interrupted"
    assert (tmp_path / "out" / "checkpoints" / "step-10").exists()


def test_adapters_are_merged_into_a_whole_model(tmp_path: Path) -> None:
    done = finished(config(tmp_path, tmp_path / "out", lora=Lora(rank=4, alpha=8)), tmp_path / "job")
    assert done.steps[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert done.steps[-1]["kl"] != done.steps[0]["kl"]
    start = tmp_path / "start"
    assert {file.name for file in done.model.iterdir()} == {
        "README.md",
        *(file.name for file in start.iterdir()),
    }
    assert train_weights.change(start, done.model).changed > 0


def test_a_batch_ends_where_the_policy_has_moved_far_enough(tmp_path: Path) -> None:
    stopping = {"epochs_per_batch": 8, "target_kl": 1e-4, "kl_control": "Stop"}
    done = finished(config(tmp_path, tmp_path / "out", ppo=stopping), tmp_path / "job")
    assert 8 <= len(done.steps) < 8 * 8
    assert {row["batch"] for row in done.steps} == set(range(1, 9))
    assert all(row["klFromSampler"] <= 1e-4 for row in done.steps)


def test_at_another_temperature_it_starts_from_what_was_sampled_too(tmp_path: Path) -> None:
    done = finished(config(tmp_path, tmp_path / "out", sampling={"temperature": 0.6}), tmp_path / "job")
    assert done.steps[0]["klFromSampler"] == pytest.approx(0, abs=1e-6)
    assert done.steps[0]["kl"] == pytest.approx(0, abs=1e-6)


def test_another_reference_is_far_from_the_beginning(tmp_path: Path) -> None:
    other = tiny.llama(tmp_path / "other", seed=9)
    done = finished(config(tmp_path, tmp_path / "out", reference=other), tmp_path / "job")
    assert done.steps[0]["kl"] > 0.1


@pytest.mark.parametrize("rate", [1.0, 0.1])
def test_a_policy_that_runs_away_is_stopped_with_its_step(rate: float, tmp_path: Path) -> None:
    done = training.finish(
        config(tmp_path, tmp_path / "out", learning_rate=rate, beta=1e-3), tmp_path / "job"
    )
    assert done.code == ExitCode.TRAINING_DIVERGED
    assert done.report.failure is not None
    assert "Training diverged at step " in done.report.failure.message
    assert f"learningRate {rate:g}" in done.report.failure.message


def as_it_scores(folder: Path, count: int = 60) -> list[dict[str, Any]]:
    """Pairs that the judge in the folder agrees with, every one."""
    config(folder, folder / "unused")
    asked = [Question("here", f"ask {number}", text) for number in range(count) for text in ("a", "bcd")]
    scores = scoring.RewardModel("judge", folder / "reward", 64).scores(asked)
    found = []
    for one, other, left, right in zip(asked[::2], asked[1::2], scores[::2], scores[1::2], strict=True):
        chosen, rejected = (one, other) if left > right else (other, one)
        found.append({"prompt": one.prompt, "chosen": chosen.text, "rejected": rejected.text})
    return found


def test_a_judge_that_agrees_with_unseen_pairs_scores_and_that_is_reported(tmp_path: Path) -> None:
    done = finished(config(tmp_path, tmp_path / "out", pairs=as_it_scores(tmp_path)), tmp_path / "job")
    result = done.report.result
    assert result is not None
    assert (result.counts["unseenPairs"], result.counts["unseenPairsMissing"]) == (60, 0)
    assert result.measurements["judgeAccuracy"].estimate == 100
    assert result.counts["steps"] == 16


def test_a_judge_that_does_not_is_stale(tmp_path: Path) -> None:
    swapped = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in as_it_scores(tmp_path)]
    done = training.finish(config(tmp_path, tmp_path / "out", pairs=swapped), tmp_path / "job")
    assert done.code == ExitCode.JUDGE_STALE
    assert done.report.failure is not None
    assert done.report.failure.reason == "JudgeStale"
    assert f"The reward model {(tmp_path / 'reward').as_uri()} prefers the chosen answer in 0.0 %" in (
        done.report.failure.message
    )


def test_prompts_that_leave_no_room_for_an_answer_are_dropped_and_counted(tmp_path: Path) -> None:
    config(tmp_path, tmp_path / "out")
    tiny.write_rows(tmp_path / "prompts.jsonl", [*rows(), *[rows(1)[0] | {"prompt": "b" * 60}]])
    done = finished(config(tmp_path, tmp_path / "out"), tmp_path / "job")
    assert done.report.result is not None
    assert done.report.result.counts["droppedTooLong"] == 1

    tiny.write_rows(tmp_path / "prompts.jsonl", [rows(1)[0] | {"prompt": "b" * 60}])
    refused = training.finish(config(tmp_path, tmp_path / "none"), tmp_path / "job-2")
    assert refused.code == ExitCode.NO_PROMPTS
    assert refused.report.failure is not None
    assert "longer than 52 tokens" in refused.report.failure.message


def test_the_models_own_limit_leaves_room_too(tmp_path: Path) -> None:
    config(tmp_path, tmp_path / "out")
    tiny.llama(tmp_path / "start", positions=40)
    tiny.write_rows(tmp_path / "prompts.jsonl", [*rows(), rows(1)[0] | {"prompt": "b" * 32}])
    done = finished(config(tmp_path, tmp_path / "out"), tmp_path / "job")
    assert done.report.result is not None
    assert done.report.result.counts["droppedTooLong"] == 1


def test_modules_that_are_not_there_are_refused_before_anything_is_sampled(tmp_path: Path) -> None:
    lora = Lora(rank=4, alpha=8, target_modules="q_prj")
    done = training.finish(config(tmp_path, tmp_path / "out", lora=lora), tmp_path / "job")
    assert done.code == ExitCode.INVALID_CONFIG
    assert done.report.failure is not None
    assert "q_prj" in done.report.failure.message


def test_every_prompt_is_asked_once_before_any_is_asked_again() -> None:
    asked = [place for batch in range(6) for place in ppo_rollouts.order(batch, 5, 10, 0)]
    passes = [asked[start : start + 10] for start in (0, 10, 20)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert passes[0] != passes[1] != passes[2]
    assert ppo_rollouts.order(1, 7, 3, 1) != ppo_rollouts.order(1, 7, 3, 2)

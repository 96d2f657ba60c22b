"""The reference's log-probabilities: those of sampling where they are its own, and computed where they are not."""

from __future__ import annotations

import inspect
import logging
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl import DPOTrainer

from alignment_api import digests
from alignment_api.cycle import Lora
from alignment_api.measurements import REFERENCE_DIFFERENCE, REFERENCE_REWARD_DIFFERENCE
from alignment_api.stage import InputKind, TrainParameters
from alignment_worker import lora, train_config, train_dpo, train_reference
from alignment_worker.progress import Progress
from alignment_worker.train_checkpoints import Checkpoints
from alignment_worker.train_dpo import PairTrainer
from alignment_worker.train_pairs import Gathered, TokenPair
from alignment_worker.train_reference import MOST_NATS, ReferenceLogProbs, Tokens, log_probabilities
from alignment_worker.train_trainer import ResumableTrainer, scoring_completions_only, without_known_warnings
from tests.worker import training
from tests.worker.training import Finished

TRUE: dict[int, Tokens] = {row: ([-1.0 - row, -2.0], [-3.0, -0.5, -row]) for row in range(8)}


class Computing:
    """Gives the true log-probabilities, and remembers of which rows."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, rows: Sequence[int]) -> Iterator[tuple[int, Tokens]]:
        self.rows += rows
        return ((row, TRUE[row]) for row in rows)


def moved(tokens: Tokens, by: float) -> Tokens:
    """The last token of the rejected answer is recorded otherwise."""
    chosen, rejected = tokens
    return chosen, [*rejected[:-1], rejected[-1] + by]


def found(recorded: dict[int, Tokens], computing: Computing, beta: float = 0.1) -> ReferenceLogProbs:
    return log_probabilities(len(TRUE), recorded, computing, beta=beta, seed=0)


SUMS = [(sum(chosen), sum(rejected)) for chosen, rejected in TRUE.values()]


def test_recorded_log_probabilities_that_agree_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_reference, "CHECKED_ROWS", 3)
    computing = Computing()
    recorded = {row: moved(TRUE[row], 1e-4) for row in range(6)}
    taken = found(recorded, computing)
    assert (taken.from_sampling, taken.recomputed) == (6, 0)
    assert [round(rejected - true, 6) for (_, rejected), (_, true) in zip(taken.sums, SUMS, strict=True)] == [
        *[1e-4] * 6, 0, 0,
    ]  # fmt: skip
    assert taken.difference is not None
    assert (taken.difference.completions, taken.difference.tokens) == (6, 15)
    assert taken.difference.nats == pytest.approx(3e-4 / 15)
    assert taken.difference.reward == pytest.approx(1e-5)
    # Three were looked at; of the rows that nobody sampled each is computed, once.
    assert len(computing.rows) == 5
    assert set(computing.rows[3:]) == {6, 7}


@pytest.mark.parametrize("by", [4.01 * MOST_NATS * 5, -1.0, float("nan"), float("-inf")])
def test_recorded_log_probabilities_that_differ_are_computed_again_and_said(
    by: float, caplog: pytest.LogCaptureFixture
) -> None:
    computing = Computing()
    recorded = dict(TRUE) | {row: moved(TRUE[row], by) for row in range(0, 8, 2)}
    taken = found(recorded, computing)
    assert (taken.from_sampling, taken.recomputed) == (0, 8)
    assert taken.sums == SUMS
    assert sorted(computing.rows) == list(range(8))
    assert "those of all 8 pairs are computed again" in caplog.text


def test_a_difference_that_moves_rewards_counts_though_a_token_hardly_differs() -> None:
    """p99 of β·|Δ|: a few tokens in long answers."""
    long: Tokens = ([-1.0] * 1000, [-1.0] * 1000)
    off: Tokens = ([-1.0] * 999 + [-1.4], [-1.0] * 1000)
    taken = log_probabilities(1, {0: off}, lambda rows: ((row, long) for row in rows), beta=0.1, seed=0)
    assert taken.from_sampling == 1
    taken = log_probabilities(1, {0: off}, lambda rows: ((row, long) for row in rows), beta=0.2, seed=0)
    assert taken.recomputed == 1


def test_what_nobody_sampled_is_computed_once(caplog: pytest.LogCaptureFixture) -> None:
    computing = Computing()
    taken = found({}, computing)
    assert (taken.sums, taken.from_sampling, taken.recomputed) == (SUMS, 0, 0)
    assert (taken.difference, taken.measured, caplog.text) == (None, {}, "")
    assert computing.rows == list(range(8))


# With the real trainer


@pytest.fixture(autouse=True)
def as_in_the_stage() -> Iterator[None]:
    torch.set_num_threads(1)
    with without_known_warnings(), scoring_completions_only():
        yield


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.llama(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def rows(start: Path) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    made = training.judged_pairs(start, temperature=1.3)
    ends = [row[name][-1] == 2 for row in made for name in ("chosen_ids", "rejected_ids")]
    assert any(ends)
    assert not all(ends)
    return made


def pairs(rows: list[dict[str, Any]], *, recorded: bool) -> list[TokenPair]:
    return [
        TokenPair(
            row["prompt_ids"],
            row["chosen_ids"],
            row["rejected_ids"],
            (array("f", row["chosen_log_probs"]), array("f", row["rejected_log_probs"]))
            if recorded
            else None,
        )
        for row in rows
    ]


def trainer(folder: Path, start: Path, of: list[TokenPair], adapted: bool = False) -> PairTrainer:
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    settings = training.training(epochs=3, per_device_batch_size=4, beta=0.3)
    rows = train_dpo.rows(Gathered(of, [], len(of)), settings, 100)
    common = train_config.settings(settings, folder / "scratch", recompute=False)
    return PairTrainer(
        model,
        None,
        rows,
        args=train_config.made(settings, train_dpo.config, common),
        adapters=lora.configuration(Lora(rank=4, alpha=8), model) if adapted else None,
        tokenizer=training.tokenizer(),
        checkpoints=Checkpoints(folder / "checkpoints", "identity"),
        progress=Progress(),
    )


def trajectory(made: PairTrainer) -> list[float]:
    made.train_or_resume()
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


@pytest.mark.parametrize("adapted", [False, True])
def test_training_goes_as_with_log_probabilities_that_were_computed(
    adapted: bool, tmp_path: Path, start: Path, rows: list[dict[str, Any]]
) -> None:
    taken = trainer(tmp_path / "taken", start, pairs(rows, recorded=True), adapted)
    assert taken.log_probabilities is not None
    assert (taken.log_probabilities.from_sampling, taken.log_probabilities.recomputed) == (len(rows), 0)
    computed = trainer(tmp_path / "computed", start, pairs(rows, recorded=False), adapted)
    losses = trajectory(taken)
    assert losses == pytest.approx(trajectory(computed), abs=1e-4)
    assert losses[-1] < losses[0] - 0.01


def test_what_was_recorded_of_other_tokens_is_noticed_and_computed_again(
    tmp_path: Path, start: Path, rows: list[dict[str, Any]]
) -> None:
    tampered = [dict(row) for row in rows]
    tampered[5]["chosen_log_probs"] = [
        tampered[5]["chosen_log_probs"][0] - 2,
        *tampered[5]["chosen_log_probs"][1:],
    ]
    made = trainer(tmp_path / "tampered", start, pairs(tampered, recorded=True))
    assert made.log_probabilities is not None
    assert (made.log_probabilities.from_sampling, made.log_probabilities.recomputed) == (0, len(rows))
    computed = trainer(tmp_path / "computed", start, pairs(rows, recorded=False))
    assert trajectory(made) == pytest.approx(trajectory(computed), abs=1e-6)


def test_no_row_but_those_that_are_checked_goes_through_the_reference(
    tmp_path: Path, start: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_reference, "CHECKED_ROWS", 6)
    through: list[int] = []
    compute = DPOTrainer.compute_ref_log_probs

    def counting(self: Any, model: Any, inputs: Any) -> Any:
        through.append(len(inputs["input_ids"]) // 2)
        return compute(self, model, inputs)

    monkeypatch.setattr(DPOTrainer, "compute_ref_log_probs", counting)
    made = trainer(tmp_path, start, pairs(rows, recorded=True))
    assert sum(through) == 6
    assert made.ref_model is None
    trajectory(made)
    assert sum(through) == 6


def test_the_hooks_of_trl_that_are_overridden_are_there() -> None:
    """By name and by what they are called with: TRL renames without notice, and then its own would run."""
    ours = {
        name
        for kind in (PairTrainer, ResumableTrainer)
        for name, value in vars(kind).items()
        if inspect.isfunction(value)
    }
    overridden = {name: tuple(inspect.signature(getattr(DPOTrainer, name)).parameters) for name in ours
                  if hasattr(DPOTrainer, name) and name != "__init__"}  # fmt: skip
    assert overridden == {
        "_prepare_dataset": ("self", "dataset", "processing_class", "args", "dataset_name"),
        "_precompute_ref_logps": ("self", "dataset", "name", "batch_size"),
        "training_step": ("self", "args", "kwargs"),
        "create_scheduler": ("self", "num_training_steps", "optimizer"),
        "_prepare_for_training": ("self", "max_steps", "train_dataloader", "resume_from_checkpoint"),
        "_send_telemetry": ("self",),
        "_save_checkpoint": ("self", "model", "trial"),
        "_load_from_checkpoint": ("self", "resume_from_checkpoint", "model"),
        "_load_optimizer_and_scheduler": ("self", "checkpoint"),
    }
    assert tuple(inspect.signature(DPOTrainer.compute_ref_log_probs).parameters) == (
        "self",
        "model",
        "inputs",
    )


# From the stage's command line


def finished(
    folder: Path,
    start: Path,
    rows: list[dict[str, Any]],
    sampled_by: Path | None,
    reference: Path | None = None,
) -> Finished:
    inputs = {
        "start": (start, InputKind.MODEL),
        "reference": (reference or start, InputKind.MODEL),
        "pairs": (training.sealed(folder / "judge", "pairs.jsonl", rows), InputKind.STAGE),
    }
    parameters = TrainParameters(
        training=training.training(epochs=1),
        sampled_by=digests.of_folder(sampled_by) if sampled_by else None,
    )
    return training.finish(training.config(folder / "out", inputs, parameters), folder / "job")


def reported(done: Finished) -> tuple[int, int, set[str]]:
    assert done.report.result is not None, done.report.failure
    counts = done.report.result.counts
    measured = {name for name in done.report.result.measurements if name.startswith("reference")}
    return counts["referenceFromSampling"], counts["referenceRecomputed"], measured


BOTH = {REFERENCE_DIFFERENCE, REFERENCE_REWARD_DIFFERENCE}


def test_the_report_says_where_the_references_log_probabilities_are_from(
    tmp_path: Path, start: Path, rows: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    other = training.llama(tmp_path / "other", seed=5)
    caplog.set_level(logging.WARNING)
    assert reported(finished(tmp_path / "own", start, rows, start)) == (len(rows), 0, BOTH)
    assert reported(finished(tmp_path / "unknown", start, rows, None)) == (0, 0, set())
    assert reported(finished(tmp_path / "others", start, rows, other)) == (0, 0, set())
    # The reference sampled, and training starts from another model: the reference is what they are checked with.
    anchored = finished(tmp_path / "anchored", other, rows, start, reference=start)
    assert reported(anchored) == (len(rows), 0, BOTH)
    assert abs(anchored.steps[0]["rewardMargin"]) > 1e-3
    assert "computed again" not in caplog.text


def test_log_probabilities_of_a_model_that_is_not_what_the_config_says_are_computed_again(
    tmp_path: Path, start: Path, rows: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """As those of a server that serves something else, or computes otherwise."""
    other = training.llama(tmp_path / "other", seed=5)
    done = finished(tmp_path, other, rows, other)
    assert reported(done) == (0, len(rows), BOTH)
    assert done.steps[0]["rewardMargin"] == pytest.approx(0, abs=1e-5)
    assert "are computed again" in caplog.text

"""The stage `reward`: a reward model from the pairs of the datasets, by the likelihood of Bradley and Terry.

Makes `model/`, a sequence classifier with one label that says in trained-on.json what it has seen, and
`training-log.jsonl`, a line for every step; keeps resumable checkpoints in the stage's folder. What is measured is
measured on the stored model, read as the stage `judge` reads it.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

import torch

from alignment_api import measurements as names
from alignment_api.measurements import Measurement
from alignment_api.stage import RewardParameters
from alignment_worker import (
    models,
    reward_pairs,
    train_checkpoints,
    train_config,
    train_log,
    train_weights,
    unseen,
)
from alignment_worker.failures import NoWorkDoneError
from alignment_worker.reward_pairs import RewardPairs
from alignment_worker.reward_trainer import RewardModelTrainer
from alignment_worker.scoring import RewardModel
from alignment_worker.statistics import mean_change, reward_quality
from alignment_worker.store import Outcome
from alignment_worker.train_columns import Rows
from alignment_worker.train_trainer import without_known_warnings
from alignment_worker.workspace import Workspace

MODEL = "model"
LOG = "training-log.jsonl"


def run(workspace: Workspace) -> Outcome:
    """Raises TooFewPairsError, JudgeStaleError, NoWorkDoneError, TrainingDivergedError, InvalidConfigError,
    InvalidModelError, InvalidRowError, OSError.
    """
    parameters = workspace.config.parameters
    assert isinstance(parameters, RewardParameters)
    backbone = workspace.inputs.path("backbone")
    seen = unseen.trained_on(backbone)
    with tempfile.TemporaryDirectory() as scratch, without_known_warnings():
        trainer, rows, gathered = _trainer(workspace, parameters, backbone, seen, Path(scratch))
        trainer.train_or_resume()
    steps, done = trainer.steps, trainer.counts
    if not done["steps"]:
        raise NoWorkDoneError(
            f"Not one step was trained on {len(gathered.trained)} pairs; this is an error of the worker."
        )
    train_log.write(workspace.run_folder / LOG, steps)
    folder = workspace.run_folder / MODEL
    model = trainer.trained_model()
    _store(model, backbone, folder, seen.union(pair.mark for pair in gathered.trained))
    size = sum(weights.numel() for weights in model.parameters())
    del trainer, model
    gc.collect()  # weights, gradients and optimizer make room for the stored model
    measured = _measured(workspace, folder, gathered, parameters)
    unseen.refuse_if_stale(
        "The reward model that this stage trained",
        measured[names.HELD_OUT_ACCURACY],
        "Give more pairs in spec.datasets, raise spec.reward.epochs or learningRate, or name another "
        "spec.reward.model.",
    )
    counts = rows.counts | done | {"parameters": size}
    return Outcome(counts, train_log.measured(steps[: done["steps"]]) | measured, model=folder)


def _trainer(
    workspace: Workspace, parameters: RewardParameters, backbone: Path, seen: frozenset[str], scratch: Path
) -> tuple[RewardModelTrainer, Rows, RewardPairs]:
    """Everything that can be refused without weights is refused before they are loaded."""
    training = parameters.training
    tokenizer = models.load_tokenizer(backbone, "backbone")
    config = models.check_backbone("backbone", backbone).config
    limit = models.longest(training.max_length, models.max_positions(backbone, "backbone"))
    embeddings = config.get_text_config().vocab_size
    gathered = reward_pairs.gather(workspace.inputs, parameters, tokenizer, limit, embeddings, seen)
    rows = gathered.rows()
    recompute = train_config.must_recompute(config, rows.tokens_at_once(training.per_device_batch_size))
    settings = train_config.reward_configuration(parameters.reward, training, scratch, recompute=recompute)
    torch.manual_seed(training.seed)  # of a new head
    trainer = RewardModelTrainer(
        models.load_backbone("backbone", backbone),
        rows,
        args=settings,
        tokenizer=tokenizer,
        checkpoints=train_checkpoints.of(workspace, rows),
        progress=workspace.progress,
    )
    return trainer, rows, gathered


def _store(model: Any, backbone: Path, folder: Path, seen: frozenset[str]) -> None:
    """The backbone's tokenizer with the new model's weights and config. Raises OSError."""
    train_weights.store(model, backbone, folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    model.config.save_pretrained(folder)
    unseen.write_trained_on(folder, seen)


def _measured(
    workspace: Workspace, folder: Path, gathered: RewardPairs, parameters: RewardParameters
) -> dict[str, Measurement]:
    """On the held-out pairs, by the stored model."""
    confidence = parameters.confidence_percent / 100
    judge = RewardModel("the trained reward model", folder, parameters.training.per_device_batch_size)
    workspace.progress.begin(2 * len(gathered.held_out), "answers", "measuring on held-out pairs")
    asked = [question for pair in gathered.held_out for question in pair.questions]
    scores = judge.scores(asked, workspace.progress)
    margins = [chosen - rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]
    lengths = [tokens for pair in gathered.held_out for tokens in pair.answer_tokens]
    return {
        names.HELD_OUT_ACCURACY: reward_quality.accuracy(margins, confidence),
        names.HELD_OUT_MARGIN: mean_change.mean(margins, confidence),
        names.BRIER_SCORE: reward_quality.brier_score(margins, confidence),
        names.OVERCONFIDENCE: reward_quality.overconfidence(margins, confidence),
        names.LENGTH_CORRELATION: reward_quality.length_correlation(scores, lengths),
    }

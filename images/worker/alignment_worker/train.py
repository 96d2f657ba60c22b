"""The stage `train`: from a start to a candidate, on pairs by the trainers of TRL (`train_METHOD.py` says how), or
online by PPO.

Reads the start, the reference and the pairs, or with PPO prompts and judge; stores the candidate in `model/`, a line
for every step in `training-log.jsonl` and the origin of every pair in `rows.jsonl`; keeps resumable checkpoints in the
stage's folder.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from alignment_api.cycle import Training
from alignment_api.measurements import Measurement
from alignment_api.stage import TrainParameters
from alignment_worker import (
    lora,
    model_card,
    models,
    near_duplicates,
    ppo_training,
    precision,
    train_best_of_n,
    train_checkpoints,
    train_config,
    train_dpo,
    train_kto,
    train_log,
    train_pairs,
    train_rows,
    train_sharding,
    train_weights,
    train_zero3,
)
from alignment_worker.artifacts import TRAINING_LOG
from alignment_worker.failures import NoWorkDoneError
from alignment_worker.store import Outcome
from alignment_worker.train_columns import Rows
from alignment_worker.train_pairs import Gathered
from alignment_worker.train_trainer import (
    ResumableTrainer,
    diverged,
    without_known_warnings,
    without_trls_detours,
)
from alignment_worker.workspace import Workspace

MODEL = "model"
LOG = TRAINING_LOG


@dataclass(frozen=True)
class Method:
    """How pairs become rows, the settings of the method's trainer, and that trainer."""

    rows: Callable[[Gathered, Training, int], Rows]
    config: Callable[..., TrainingArguments]
    trainer: Callable[..., ResumableTrainer]


_DPO = Method(train_dpo.rows, train_dpo.config, train_dpo.PairTrainer)
METHODS = {
    "DPO": _DPO,
    "IPO": _DPO,
    "KTO": Method(train_kto.rows, train_kto.config, train_kto.UnpairedTrainer),
    "BestOfN": Method(train_best_of_n.rows, train_best_of_n.config, train_best_of_n.AnswerTrainer),
}


def run(workspace: Workspace) -> Outcome:
    """Raises TooFewPairsError, NoPromptsError, JudgeStaleError, NoWorkDoneError, TrainingDivergedError,
    InvalidConfigError, InvalidModelError, InvalidRowError, OSError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, TrainParameters)
    start = workspace.inputs.path("start")
    if parameters.online:
        return _run_online(workspace, parameters, start)
    with tempfile.TemporaryDirectory() as scratch, without_trls_detours():
        trainer, rows, gathered = _trainer(workspace, parameters, start, Path(scratch))
        keys = train_rows.store(rows.origins, workspace.config.iteration, workspace.run_folder)
        pairs, row_counts, learned = len(rows.lengths), rows.counts, gathered.learned
        del rows, gathered  # the trainer has its own copy, and needs the memory
        trainer.train_or_resume()
        if trainer.saw_all_rows:  # what it did not get to is there for the next
            learned |= keys
        train_rows.store_learned(learned, workspace.run_folder)
        trained = trainer.trained_model(lambda: models.load_weights("start", start, torch.float32))
    steps, done = trainer.steps, trainer.counts
    if not done["steps"]:
        raise NoWorkDoneError(f"Not one step was trained on {pairs} rows; this is an error of the worker.")
    train_log.write(workspace.run_folder / LOG, steps)
    train_weights.store(trained, start, workspace.run_folder / MODEL)
    reference = trainer.log_probabilities
    del trainer, trained
    gc.collect()  # weights, gradients and optimizer make room for the comparison
    change = _change(workspace, start, done["steps"], parameters.training)
    counts = (
        row_counts
        | (reference.counts if reference else {})
        | done
        | {
            "parameters": change.parameters,
            "parametersChanged": change.changed,
        }
    )
    measurements = train_log.measured(steps[: done["steps"]]) | (reference.measured if reference else {})
    return _candidate(workspace, counts, measurements)


def _run_online(workspace: Workspace, parameters: TrainParameters, start: Path) -> Outcome:
    training = parameters.training
    adapters = lora.configuration(training.lora, models.without_weights(start)) if training.lora else None
    with without_known_warnings():
        trained = ppo_training.train(workspace, parameters, adapters)
    train_log.write(workspace.run_folder / LOG, trained.log)
    train_weights.store(trained.model, start, workspace.run_folder / MODEL)
    counts, measurements, by_category = trained.counts, trained.measurements, trained.by_category
    del trained
    change = _change(workspace, start, counts["steps"], training)
    counts |= {"parameters": change.parameters, "parametersChanged": change.changed}
    return replace(_candidate(workspace, counts, measurements), by_category=by_category)


def _candidate(workspace: Workspace, counts: dict[str, int], measurements: dict[str, Measurement]) -> Outcome:
    """With its card."""
    folder, inputs = workspace.run_folder / MODEL, workspace.inputs
    parameters = workspace.config.parameters
    assert isinstance(parameters, TrainParameters)
    if parameters.near_percent is not None:
        counts = counts | near_duplicates.flag(workspace, parameters.near_percent)
    card = model_card.of_checkpoint(workspace.config, inputs.digests, counts, inputs.path("start"))
    (folder / model_card.FILE).write_text(card)
    return Outcome(counts, measurements, model=folder)


def help_with(workspace: Workspace) -> None:
    """The same training in the other processes of a gang; the first stores what comes of it. Raises as `run`."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, TrainParameters)
    start = workspace.inputs.path("start")
    with without_trls_detours():
        trainer, _, _ = _trainer(workspace, parameters, start, workspace.run_folder)
        trainer.train_or_resume()


def _trainer(
    workspace: Workspace, parameters: TrainParameters, start: Path, scratch: Path
) -> tuple[ResumableTrainer, Rows, Gathered]:
    """Everything that can be refused without weights is refused before they are loaded."""
    training = parameters.training
    tokenizer = models.load_tokenizer(start, "start")
    skeleton = models.without_weights(start)
    adapters = lora.configuration(training.lora, skeleton) if training.lora else None
    layout = train_sharding.layout(training, skeleton)
    eos_ids = models.eos_ids(skeleton, tokenizer)
    limit = models.longest(training.max_length, models.max_positions(start, "start"))
    embeddings = skeleton.config.get_text_config().vocab_size
    gathered = train_pairs.gather(workspace.inputs, parameters, tokenizer, eos_ids, limit, embeddings)
    method = METHODS[training.method]
    rows = method.rows(gathered, training, limit)
    batch = rows.settings.get("per_device_train_batch_size", training.per_device_batch_size)
    recompute = train_config.must_recompute(skeleton.config, rows.tokens_at_once(batch))
    settings = train_config.settings(training, scratch, recompute=recompute)
    if training.sharding == "ZeRO3":
        train_zero3.connect(precision.device())
    config = train_config.made(training, method.config, settings | rows.settings)
    trainer = method.trainer(
        models.load_weights("start", start, torch.float32, layout),
        None if training.method == "BestOfN" else _reference(workspace, layout),
        rows,
        args=config,
        adapters=adapters,
        tokenizer=tokenizer,
        checkpoints=train_checkpoints.of(workspace, rows),
        progress=workspace.progress,
    )
    return trainer, rows, gathered


def _change(workspace: Workspace, start: Path, steps: int, training: Training) -> train_weights.Change:
    """What was stored, against the start. Raises NoWorkDoneError, TrainingDivergedError."""
    change, learning_rate = (
        train_weights.change(start, workspace.run_folder / MODEL),
        train_config.learning_rate(training),
    )
    if not change.finite:
        raise diverged("the weights are not finite", steps, learning_rate)
    if not change.changed:
        arguments = train_config.shown(training.arguments or {})
        raise NoWorkDoneError(
            f"After {steps} steps the stored weights equal those of the start: the update is smaller than their "
            f"precision holds. Raise spec.training.learningRate (it was {learning_rate:g}), or start from a model "
            "stored in FP32."
            + (f" Or spec.training.arguments hold it back: {arguments}." if arguments else "")
        )
    return change


def _reference(workspace: Workspace, layout: Any | None) -> Any | None:
    """The model that the KL term anchors to, or None if it is the start itself: no second copy then."""
    inputs = workspace.inputs
    reference = inputs.path("reference")
    if inputs.digests["reference"] == inputs.digests["start"]:
        return None
    return models.load_weights("reference", reference, torch.float32, layout)

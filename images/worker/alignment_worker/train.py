"""The stage `train`: from pairs and a start to a candidate, by DPO (Rafailov et al. 2023, with TRL).

Reads the start, the reference and the pairs; stores the candidate in `model/` and a line for every step in
`training-log.jsonl`; keeps resumable checkpoints in the stage's folder.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from alignment_api import digests
from alignment_api.stage import TrainParameters
from alignment_worker import lora, models, train_config, train_log, train_pairs, train_weights
from alignment_worker.failures import NoWorkDoneError
from alignment_worker.store import Outcome
from alignment_worker.train_checkpoints import Checkpoints
from alignment_worker.train_pairs import Gathered
from alignment_worker.train_trainer import (
    PairTrainer,
    diverged,
    scoring_completions_only,
    without_known_warnings,
)
from alignment_worker.workspace import Workspace

MODEL = "model"
LOG = "training-log.jsonl"


def run(workspace: Workspace) -> Outcome:
    """Raises TooFewPairsError, NoWorkDoneError, TrainingDivergedError, InvalidConfigError, InvalidModelError,
    InvalidRowError, OSError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, TrainParameters)
    start = workspace.inputs.path("start")
    with tempfile.TemporaryDirectory() as scratch, without_known_warnings(), scoring_completions_only():
        trainer, gathered = _trainer(workspace, parameters, start, Path(scratch))
        trainer.train_or_resume()
    steps = train_log.steps_of(trainer.state.log_history)
    if not steps:
        raise NoWorkDoneError(
            f"Not one step was trained on {len(gathered.pairs)} pairs; this is an error of the worker."
        )
    train_log.write(workspace.run_folder / LOG, steps)
    train_weights.store(trainer.trained_model(), start, workspace.run_folder / MODEL)
    del trainer
    gc.collect()  # weights, gradients and optimizer make room for the comparison
    change = _change(workspace, start, len(steps), train_config.learning_rate(parameters.training))
    counts = gathered.counts | {
        "steps": len(steps),
        "epochs": parameters.training.epochs,
        "parameters": change.parameters,
        "parametersChanged": change.changed,
    }
    return Outcome(counts, train_log.measured(steps), model=workspace.run_folder / MODEL)


def help_with(workspace: Workspace) -> None:
    """The same training in the other processes of a gang; the first stores what comes of it. Raises as `run`."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, TrainParameters)
    start = workspace.inputs.path("start")
    with without_known_warnings(), scoring_completions_only():
        trainer, _ = _trainer(workspace, parameters, start, workspace.run_folder)
        trainer.train_or_resume()


def _trainer(
    workspace: Workspace, parameters: TrainParameters, start: Path, scratch: Path
) -> tuple[PairTrainer, Gathered]:
    """Everything that can be refused without weights is refused before they are loaded."""
    training = parameters.training
    tokenizer = models.load_tokenizer(start, "start")
    skeleton = _without_weights(start)
    adapters = lora.configuration(training.lora, skeleton) if training.lora else None
    eos_ids = models.eos_ids(skeleton, tokenizer)
    limit = _longest(skeleton, parameters)
    embeddings = skeleton.config.get_text_config().vocab_size
    gathered = train_pairs.gather(workspace.inputs, parameters, tokenizer, eos_ids, limit, embeddings)
    recompute = train_config.must_recompute(skeleton.config, gathered.pairs, training.per_device_batch_size)
    config = train_config.configuration(training, scratch, recompute=recompute)
    trainer = PairTrainer(
        models.load_weights("start", start, torch.float32),
        _reference(workspace),
        gathered.pairs,
        config=config,
        adapters=adapters,
        tokenizer=tokenizer,
        checkpoints=Checkpoints(workspace.stage_folder / "checkpoints", _identity(workspace, gathered)),
        progress=workspace.progress,
    )
    return trainer, gathered


def _change(workspace: Workspace, start: Path, steps: int, learning_rate: float) -> train_weights.Change:
    """What was stored, against the start. Raises NoWorkDoneError, TrainingDivergedError."""
    change = train_weights.change(start, workspace.run_folder / MODEL)
    if not change.finite:
        raise diverged("the weights are not finite", steps, learning_rate)
    if not change.changed:
        raise NoWorkDoneError(
            f"After {steps} steps the stored weights equal those of the start: the update is smaller than their "
            f"precision holds. Raise spec.training.learningRate (it was {learning_rate:g}), or start from a model "
            "stored in FP32."
        )
    return change


def _reference(workspace: Workspace) -> Any | None:
    """The model that the KL term anchors to, or None if it is the start itself: no second copy then."""
    inputs = workspace.inputs
    reference = inputs.path("reference")
    if inputs.digests["reference"] == inputs.digests["start"]:
        return None
    return models.load_weights("reference", reference, torch.float32)


def _without_weights(folder: Path) -> Any:
    """The model's modules on the meta device, with the folder's generation config."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model


def _longest(skeleton: Any, parameters: TrainParameters) -> int:
    """Tokens of the longest pair: the user's limit, or what the model was made for."""
    positions = getattr(skeleton.config.get_text_config(), "max_position_embeddings", None)
    return min(parameters.training.max_length, positions or parameters.training.max_length)


def _identity(workspace: Workspace, gathered: Gathered) -> str:
    """Tells this training from one with another config, other inputs or other pairs."""
    rows = [[pair.prompt, pair.chosen, pair.rejected] for pair in gathered.pairs]
    return digests.of_json([workspace.config.to_wire(), dict(workspace.inputs.digests), rows])

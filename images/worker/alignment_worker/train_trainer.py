"""What the trainers of all methods share: our checkpoints, progress and stops, on rows that are tokens already.

What TRL 1.16 does by itself and is overridden here: it tokenises text and appends EOS (`_prepare_dataset`), writes a
model card beside each checkpoint, skips the adapters' dropout together with the model's, hides a loss that is not
finite from its log, hashes all weights, and scores prompt positions too where there is no Triton.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME
from trl.trainer import dpo_trainer, kto_trainer, utils

from alignment_api.stage import DIVERGED_AT
from alignment_worker import (
    gang,
    models,
    train_checkpoints,
    train_config,
    train_divergence,
    train_log,
    train_sharding,
    train_weights,
    train_zero3,
)
from alignment_worker.failures import TrainingDivergedError
from alignment_worker.progress import Progress
from alignment_worker.train_checkpoints import Checkpoints
from alignment_worker.train_columns import Rows
from alignment_worker.train_divergence import Divergence, Watch
from alignment_worker.train_reference import ReferenceLogProbs

REMEDY = "Lower spec.training.learningRate: a tenth of it is a good next try."


@contextmanager
def without_known_warnings() -> Iterator[None]:
    """peft and TRL ask for a property by the name that transformers 5 deprecates; nothing here can change that."""
    with train_zero3.without_deepspeed(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


@contextmanager
def scoring_completions_only() -> Iterator[None]:
    """On CPUs TRL projects prompt positions on the vocabulary too, and throws the result away.

    It does so because other accelerators compile anew for every shape; a CPU does not. The sums are the same.
    """
    original = utils._use_triton
    utils._use_triton = lambda device: device.type == "cpu" or original(device)
    try:
        yield
    finally:
        utils._use_triton = original


@contextmanager
def without_trls_detours() -> Iterator[None]:
    """TRL also hashes all weights, to name a cache of log-probabilities that is not used here."""
    hashing = [dpo_trainer, kto_trainer]
    originals = [module.hash_module for module in hashing]
    for module in hashing:
        module.hash_module = lambda _model: ""
    try:
        with without_known_warnings(), scoring_completions_only():
            yield
    finally:
        for module, original in zip(hashing, originals, strict=True):
            module.hash_module = original


class ResumableTrainer(Trainer):  # type: ignore[misc]
    """Stands before one of TRL's trainers among the bases, and hands `others` on to it.

    The model's own dropout is off; that of adapters stays. `remedy` is what to do when training diverges.
    `log_probabilities` says where the reference's are from, for the methods that may be given them; `divergence`
    whether the training was stopped, and the model is that of an earlier step.
    """

    remedy: ClassVar[str] = REMEDY
    log_probabilities: ReferenceLogProbs | None = None
    divergence: Divergence | None = None
    ref_model: Any  # TRL's, in the trainers that have one

    def __init__(
        self,
        model: Any,
        of: Rows,
        collator: Callable[..., Any],
        *,
        tokenizer: Any,
        checkpoints: Checkpoints,
        progress: Progress,
        **others: Any,
    ) -> None:
        self._checkpoints = checkpoints
        self._progress = progress
        utils.disable_dropout_in_model(model)
        super().__init__(
            model=model,
            train_dataset=Dataset.from_dict(of.columns),
            processing_class=tokenizer,
            data_collator=collator(
                pad_token_id=models.pad_id(tokenizer, model.config.get_text_config().vocab_size)
            ),
            callbacks=[_Report(progress)],
            **others,
        )
        self._guard = _Guard(
            Watch(
                beta=getattr(self.args, "beta", 1.0),
                clip_norm=self.args.max_grad_norm,
                scaled_loss=self.args.fp16,
            )
        )
        self.add_callback(self._guard)
        self.remove_callback(PrinterCallback)
        train_sharding.settle(self.model)
        self._trains_shards = train_sharding.trains_shards(self.model)
        self._trained: train_sharding.Weights = {}
        self._kept_step = 0

    def train_or_resume(self) -> None:
        """From the last complete checkpoint of this training, if there is one.

        A training that diverges is stopped, and the last sound checkpoint taken.
        Raises TrainingDivergedError if there is none.
        """
        checkpoint = self._checkpoint()
        self.train(resume_from_checkpoint=checkpoint)
        self.divergence = self._guard.divergence or self._broken_at_the_end()
        if self.divergence:
            self._return_to(self.divergence)
        if train_sharding.is_divided(self.model):
            self._trained = train_sharding.gathered_weights(self.model)
        gang.leave()
        train_zero3.leave()

    def trained_model(self, start: Callable[[], Any] | None = None) -> Any:
        """The model in FP32, adapters merged; of no use to the trainer afterwards.

        A divided one needs `start`, which loads the model that it started from: it takes up what was trained.
        """
        model = self.accelerator.unwrap_model(self.model)
        if train_sharding.is_divided(model):
            assert start is not None
            model = train_sharding.united(model, self._trained, start())
        merged = model.merge_and_unload() if isinstance(model, PeftModel) else model
        return merged.to("cpu")

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The log's rows, those of a divergence among them."""
        return train_log.steps_of(self.state.log_history)

    @property
    def counts(self) -> dict[str, int]:
        """What the model was trained for, and which step showed that it could be no further."""
        if self.divergence is None:
            return {"steps": self.state.global_step, "epochs": int(self.args.num_train_epochs)}
        return {"steps": self._kept_step, DIVERGED_AT: self.divergence.step}

    @property
    def saw_all_rows(self) -> bool:
        """Whether the model was trained on each of them once."""
        return self.divergence is None or self._kept_step * self.args.num_train_epochs >= self.state.max_steps

    def _checkpoint(self, last: int | None = None) -> str | None:
        """The folder of the newest, of step `last` at most."""
        found = self._checkpoints.newest(last) if gang.rank() == 0 else None
        folder = gang.of_first(found)
        return str(folder) if folder else None

    def _broken_at_the_end(self) -> Divergence | None:
        """No later step looks at the weights of the last one."""
        trained = (weights for weights in self.model.parameters() if weights.requires_grad)
        finite = train_weights.finite(map(train_sharding.own_part, trained))
        if all(gang.gathered(finite)):
            return None
        last = self.state.global_step
        found = self._guard.watch.broken(last + 1, "the weights behind it are not finite")
        return replace(found, step=last)

    def _return_to(self, divergence: Divergence) -> None:
        """The weights of the last sound checkpoint. Raises TrainingDivergedError."""
        sound = self._checkpoint(divergence.last_sound)
        if sound is None:
            raise diverged(divergence.what, divergence.step, self.args.learning_rate, self.remedy)
        self._load_from_checkpoint(sound)
        self._kept_step = train_checkpoints.step_of(Path(sound))
        train_divergence.tell(divergence, self._kept_step)

    @contextmanager
    def referring(self) -> Iterator[Any]:
        """What computes the reference's log-probabilities: a model of its own, or that in training as it is now."""
        if self.ref_model is None and self.is_deepspeed_enabled:
            with train_zero3.forward(self.model, self.accelerator) as engine:
                yield engine
        else:
            yield self.ref_model or self.model

    def let_go_of_reference(self) -> None:
        """Its log-probabilities are there."""
        if self.ref_model is not None and self.is_deepspeed_enabled:
            train_zero3.let_go(self.ref_model)
        self.ref_model = None

    def chosen_mask(self, _inputs: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Of the answers that are to become likelier, rows × positions, 1 for a token; None without rewards."""
        return None

    def training_step(self, model: Any, inputs: Mapping[str, torch.Tensor], *others: Any) -> torch.Tensor:
        """TRL logs the sums of answers, and not how long they were."""
        mask = self.chosen_mask(inputs)
        if mask is not None:
            mine = torch.tensor([[mask.sum(), len(mask)]], dtype=torch.float32, device=self.args.device)
            tokens, rows = self.accelerator.gather(mine).sum(0).tolist()
            if rows:
                self._metrics["train"]["answer_tokens"].append(tokens / rows)
        loss: torch.Tensor = super().training_step(model, inputs, *others)
        return loss

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset

    def create_scheduler(self, num_training_steps: int, *others: Any, **named: Any) -> Any:
        """Raises InvalidConfigError."""
        train_config.check_warmup(self.args, num_training_steps)
        return super().create_scheduler(num_training_steps, *others, **named)

    def _send_telemetry(self) -> None:
        """Nothing leaves the pod."""

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if self.state.global_step == self.state.max_steps:
            return  # the model itself is stored
        random_states = gang.gathered(self._random_state())
        whole = train_sharding.gathered_state(self.model, self.optimizer) if self._trains_shards else None
        if gang.rank() == 0:
            self._checkpoints.keep(
                self.state.global_step, lambda folder: self._write_checkpoint(folder, random_states, whole)
            )

    def _write_checkpoint(
        self, folder: Path, random_states: list[tuple[str, bytes]], whole: train_sharding.WholeState | None
    ) -> None:
        """What `train(resume_from_checkpoint=…)` reads: weights in FP32, optimizer, scheduler, random states."""
        folder.mkdir()
        if whole is None:
            self.model.save_pretrained(folder, state_dict=train_sharding.undivided(self.model))
            self._save_optimizer_and_scheduler(str(folder))
        else:
            whole.write(folder)
            torch.save(self.lr_scheduler.state_dict(), folder / SCHEDULER_NAME)
        self._save_scaler(str(folder))
        for name, data in random_states:
            (folder / name).write_bytes(data)
        self.state.save_to_json(str(folder / TRAINER_STATE_NAME))

    def _prepare_for_training(self, steps: int, batches: Any, checkpoint: str | None) -> Any:
        """With DeepSpeed transformers reads none but DeepSpeed's own."""
        if checkpoint is None or not self.is_deepspeed_enabled:
            return super()._prepare_for_training(steps, batches, checkpoint)
        prepared = super()._prepare_for_training(steps, batches, None)
        self._load_from_checkpoint(checkpoint)
        self._load_optimizer_and_scheduler(checkpoint)
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any | None = None) -> None:
        if self._trains_shards:
            train_sharding.restore_weights(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self._trains_shards and checkpoint is not None:
            train_sharding.restore_optimizer(self.model, self.optimizer, Path(checkpoint))
            self.lr_scheduler.load_state_dict(
                torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True)
            )
        else:
            super()._load_optimizer_and_scheduler(checkpoint)

    def _random_state(self) -> tuple[str, bytes]:
        """This process's own: name and content of the file that it is read from again."""
        with tempfile.TemporaryDirectory() as folder:
            self._save_rng_state(folder)
            (file,) = Path(folder).iterdir()
            return file.name, file.read_bytes()


def diverged(what: str, step: int, learning_rate: float, remedy: str = REMEDY) -> TrainingDivergedError:
    """The error with its step and what to do."""
    if step == 1:
        remedy = (
            "Nothing was trained before it: see whether the weights that it starts from are numbers, "
            "and whether a reference fits them."
        )
    return TrainingDivergedError(
        f"Training diverged at step {step}: {what}, with learningRate {learning_rate:g}. {remedy}"
    )


class _Guard(TrainerCallback):  # type: ignore[misc]
    """Stops a training that diverges, and keeps no checkpoint that might already have. Equal in all of a gang."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.divergence: Divergence | None = None

    def on_train_begin(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        for row in train_log.steps_of(state.log_history):
            self.watch.see(row)

    def on_log(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        rows = train_log.steps_of(state.log_history[-1:])
        if rows and self.divergence is None:
            self.divergence = self.watch.see(rows[0])
            control.should_training_stop |= self.divergence is not None
            control.should_save &= not self.watch.suspicious


class _Report(TrainerCallback):  # type: ignore[misc]
    """Progress after every optimizer step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._steps_before = 0  # done by the run that this one goes on from

    def on_train_begin(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        self._progress.begin(state.max_steps, "steps", "training", done=state.global_step)
        self._steps_before = state.global_step

    def on_log(
        self, _args: TrainingArguments, state: TrainerState, _control: TrainerControl, **kwargs: Any
    ) -> None:
        if "loss" in kwargs["logs"]:
            self._count("steps", state.global_step - self._steps_before)
            self._count("tokens", int(kwargs["logs"].get("num_tokens", 0)))
            self._progress.reach(state.global_step, f"loss {kwargs['logs']['loss']:.4f}")

    def _count(self, what: Literal["steps", "tokens"], so_far: int) -> None:
        self._progress.count(what, so_far - self._progress.counts[what])

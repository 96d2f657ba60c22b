"""Online PPO: sample a batch from the policy, have it scored, take some steps on it, and again.

A batch is perDeviceBatchSize × gradientAccumulationSteps completions, and a step is taken on all of it: how it is cut
into parts for memory changes nothing but rounding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from alignment_api import digests
from alignment_api.measurements import START_REWARD, TRAIN_KL, TRAIN_LOSS, TRAIN_REWARD, Measurement
from alignment_api.ppo import PPO
from alignment_api.stage import DIVERGED_AT, TrainParameters
from alignment_worker import (
    judge_categories,
    models,
    ppo,
    ppo_batch,
    ppo_models,
    ppo_rollouts,
    scoring,
    train_checkpoints,
    train_config,
    train_divergence,
    train_weights,
    unseen,
)
from alignment_worker.failures import InvalidModelError
from alignment_worker.ppo_batch import Batch
from alignment_worker.ppo_models import Actor, Reference
from alignment_worker.ppo_rollouts import Rollouts
from alignment_worker.progress import Progress
from alignment_worker.train_checkpoints import Checkpoints
from alignment_worker.train_divergence import Divergence, Watch
from alignment_worker.train_trainer import diverged
from alignment_worker.workspace import Workspace

_GRADIENT_NORM = 1.0
_FARTHEST = 5.0  # nats a token from the reference: no policy that still answers is so far
_LEAP = 1.0  # nats a token from the sampler: the clip range holds what may be learned to a fiftieth of it
_WEIGHTS, _OPTIMIZER, _STATE = "trained.safetensors", "optimizer.pt", "state.json"


@dataclass(frozen=True)
class Trained:
    """The candidate in FP32, a row of the log for each step, and what is reported."""

    model: Any
    log: list[dict[str, Any]]
    counts: dict[str, int]
    measurements: dict[str, Measurement]
    by_category: dict[str, dict[str, Measurement]]


def train(workspace: Workspace, parameters: TrainParameters, adapters: Any | None) -> Trained:
    """Everything that can be refused without the policy's weights is refused before they are loaded.

    Raises JudgeStaleError, TrainingDivergedError, InvalidConfigError, InvalidModelError, NoPromptsError,
    InvalidRowError, OSError.
    """
    online, training, inputs = parameters.online, parameters.training, workspace.inputs
    assert online is not None
    start = inputs.path("start")
    pool = ppo_rollouts.pool(inputs, parameters, models.vocabulary("start", start))
    judge = scoring.scorer(workspace, online.judge, "judge")
    checked = unseen.checked(workspace, judge, "judge", online.confidence_percent)
    dtype = train_config.computed_in(training)
    torch.manual_seed(training.seed)  # the adapters' first values
    tokenizer = models.load_tokenizer(start, "start")
    actor = Actor(start, adapters, tokenizer, dtype)
    is_start = inputs.digests["reference"] == inputs.digests["start"]
    reference = ppo_models.reference(actor, inputs.path("reference"), tokenizer, dtype, is_start=is_start)
    loop = Loop(actor, reference, Rollouts(pool, parameters, judge), parameters)
    identity = digests.of_json(train_checkpoints.identity(workspace))
    loop.run(Checkpoints(workspace.stage_folder / "checkpoints", identity), workspace.progress)
    by_category, left_out = judge_categories.reported(checked.by_category)
    counts = pool.counts | checked.counts | left_out | loop.counts
    found = checked.measurements | measured(loop.state.log)
    return Trained(actor.merged(), loop.log, counts, found, by_category)


def measured(log: list[dict[str, Any]]) -> dict[str, Measurement]:
    """Means over the first or the last tenth of the steps, at least one."""
    tenth = max(1, len(log) // 10)
    wanted = (
        (START_REWARD, "reward", log[:tenth]),
        (TRAIN_REWARD, "reward", log[-tenth:]),
        (TRAIN_KL, "kl", log[-tenth:]),
        (TRAIN_LOSS, "loss", log[-tenth:]),
    )
    return {
        name: Measurement(estimate=sum(row[column] for row in some) / len(some), n=len(some))
        for name, column, some in wanted
    }


class DivergedError(Exception):
    """The training cannot go on from where it is."""

    def __init__(self, divergence: Divergence) -> None:
        super().__init__(divergence.what)
        self.divergence = divergence


@dataclass
class State:
    """Where the training stands, besides weights and optimizer: `batch` is the next to be sampled."""

    beta: float
    batch: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("episodes", "tokens", "truncated"), 0)
    )


class Loop:
    """The training itself."""

    def __init__(
        self, actor: Actor, reference: Reference, rollouts: Rollouts, parameters: TrainParameters
    ) -> None:
        assert parameters.online is not None
        self._actor, self._reference, self._rollouts = actor, reference, rollouts
        self._training = training = parameters.training
        self._settings = training.ppo or PPO()
        self._temperature = parameters.online.sampling.temperature
        self._size = training.per_device_batch_size * training.gradient_accumulation_steps
        self._batches = self._settings.total_episodes // self._size
        self._learning_rate = train_config.learning_rate(training)
        self._optimizer = torch.optim.AdamW(actor.groups(self._learning_rate), weight_decay=0.0, fused=True)
        self.state = State(train_config.beta(training))
        self.log = self.state.log  # with the steps that were taken back, if any were
        self._divergence: Divergence | None = None
        self._watch = Watch(clip_norm=_GRADIENT_NORM)

    @property
    def counts(self) -> dict[str, int]:
        """Of the steps that the model was trained for, and which step showed that it could be no further."""
        found = self.state.counts | {"batches": self.state.batch, "steps": len(self.state.log)}
        return found | ({DIVERGED_AT: self._divergence.step} if self._divergence else {})

    def run(self, checkpoints: Checkpoints, progress: Progress) -> None:
        """To the end, from the newest checkpoint if there is one; where it diverges, back to the last sound checkpoint.

        Raises TrainingDivergedError if there is none, InvalidRowError, InvalidModelError, OSError.
        """
        newest = checkpoints.newest()
        if newest is not None:
            self._restore(newest)
        try:
            self._go_on(checkpoints, progress)
            if not train_weights.finite(self._actor.trained().values()):
                raise self._diverged("the weights are not finite")
        except DivergedError as error:
            found = error.divergence
            sound = checkpoints.newest(found.last_sound)
            if sound is None:
                raise diverged(found.what, found.step, self._learning_rate) from error
            taken_back = self.state.log[train_checkpoints.step_of(sound) :]
            self._restore(sound)
            self.log, self._divergence = self.state.log + taken_back, found
            train_divergence.tell(found, len(self.state.log))

    def _go_on(self, checkpoints: Checkpoints, progress: Progress) -> None:
        saved = len(self.state.log)
        done = self.state.batch * self._size
        progress.begin(self._batches * self._size, "episodes", "training", done=done)
        while self.state.batch < self._batches:
            steps = len(self.state.log)
            batch = self._sampled()
            self._learn(batch)
            self.state.batch += 1
            progress.count("steps", len(self.state.log) - steps)
            progress.count("tokens", int(batch.mask.sum()))
            progress.reach(self.state.batch * self._size, f"reward {batch.score:.3f}")
            if self.state.batch < self._batches and self._due(saved) and not self._watch.suspicious:
                saved = len(self.state.log)
                checkpoints.keep(saved, self._save)

    def _due(self, saved: int) -> bool:
        return len(self.state.log) - saved >= self._training.checkpoint_every_steps

    def _sampled(self) -> Batch:
        policy = self._actor.language
        try:
            with self._actor.computing():
                sampled = self._rollouts.sampled(self.state.batch, policy)
        except InvalidModelError as error:
            if not self.state.log:
                raise
            raise self._diverged("the policy's probabilities are not finite") from error
        batch = ppo_batch.prepared(
            self._rollouts.scored(sampled, policy.tokenizer),
            self._actor,
            self._reference,
            self._settings,
            beta=self.state.beta,
            temperature=self._temperature,
            part_size=self._training.per_device_batch_size,
        )
        if not batch.kl < _FARTHEST:
            raise self._diverged(f"the policy is {batch.kl:.1f} nats a token from the reference")
        counts = self.state.counts
        counts["episodes"] += len(batch.episodes)
        counts["tokens"] += int(batch.mask.sum())
        counts["truncated"] += sum(episode.completion.truncated for episode in batch.episodes)
        return batch

    def _learn(self, batch: Batch) -> None:
        """Steps on one batch; the learning rate falls linearly from batch to batch."""
        left = 1 - self.state.batch / self._batches
        for group in self._optimizer.param_groups:
            group["lr"] = group["first_lr"] * left
        settings = self._settings
        for epoch in range(settings.epochs_per_batch):
            found = self._gradients(batch)
            if not found["klFromSampler"] < _LEAP:
                raise self._diverged(
                    f"the policy is {found['klFromSampler']:.3g} nats a token from the one that sampled the batch"
                )
            if epoch and settings.kl_control == "Stop" and found["klFromSampler"] > settings.target_kl:
                break
            self._step(batch, found)
        if settings.kl_control == "Adaptive":
            self.state.beta = ppo.next_beta(self.state.beta, batch.kl, settings.target_kl)

    def _gradients(self, batch: Batch) -> dict[str, float]:
        """Of the loss over all tokens of the batch, with its parts: means over the tokens."""
        self._optimizer.zero_grad()
        tokens, sums = batch.mask.sum(), dict[str, torch.Tensor]()
        for part in ppo_batch.parts(batch.episodes, self._training.per_device_batch_size):
            columns = self._losses(batch, part)
            mask = batch.mask[part.where]
            of_part = {
                name: torch.where(mask, column, 0.0).sum() / tokens for name, column in columns.items()
            }
            of_part["loss"].backward()
            sums = {name: sums.get(name, 0.0) + value.detach() for name, value in of_part.items()}
        found = {name: float(value) for name, value in sums.items()}
        if not isfinite(found["loss"]):
            raise self._diverged(f"the loss is {found['loss']}")
        return found

    def _losses(self, batch: Batch, part: ppo_batch.Part) -> dict[str, torch.Tensor]:
        """Of each token of the part."""
        clip_range, where = self._settings.clip_range, part.where
        said = self._actor.say(part.prompts, part.completions, self._temperature)
        old = batch.old[where]
        policy = ppo.policy_losses(said.log_probs, old, batch.advantages[where], clip_range)
        value = ppo.value_losses(said.values, batch.values[where], batch.returns[where], clip_range)
        with torch.no_grad():
            told = {
                "klFromSampler": ppo.moved(said.log_probs, old),
                "clipFraction": ppo.clipped(said.log_probs, old, clip_range),
                "entropy": said.entropies,
            }
        return {
            "loss": policy + self._settings.value_coefficient * value,
            "policyLoss": policy,
            "valueLoss": value,
            **told,
        }

    def _step(self, batch: Batch, found: Mapping[str, float]) -> None:
        norm = torch.nn.utils.clip_grad_norm_(list(self._actor.trained().values()), _GRADIENT_NORM)
        if not torch.isfinite(norm):
            raise self._diverged("the gradient is not finite")
        self._optimizer.step()
        self.state.log.append(
            {
                "step": len(self.state.log) + 1,
                "batch": self.state.batch + 1,
                **found,
                "learningRate": self._optimizer.param_groups[0]["lr"],
                "gradientNorm": float(norm),
                "reward": batch.score,
                "kl": batch.kl,
                "beta": self.state.beta,
                "length": batch.length,
                "truncated": batch.truncated,
                "mostFrequent": batch.most_frequent,
            }
        )
        if divergence := self._watch.see(self.state.log[-1]):
            raise DivergedError(divergence)

    def _diverged(self, what: str) -> DivergedError:
        return DivergedError(self._watch.broken(len(self.state.log) + 1, what))

    def _save(self, folder: Path) -> None:
        folder.mkdir()
        trained = {name: value.detach().contiguous() for name, value in self._actor.trained().items()}
        save_file(trained, folder / _WEIGHTS)
        torch.save(self._optimizer.state_dict(), folder / _OPTIMIZER)
        (folder / _STATE).write_text(json.dumps(asdict(self.state)))

    def _restore(self, folder: Path) -> None:
        device = self._actor.language.model.device
        stored = load_file(folder / _WEIGHTS)
        with torch.no_grad():
            for name, parameter in self._actor.trained().items():
                parameter.copy_(stored[name])
        optimizer = torch.load(folder / _OPTIMIZER, map_location=device, weights_only=True)
        self._optimizer.load_state_dict(optimizer)
        self.state = State(**json.loads((folder / _STATE).read_bytes()))
        self.log = self.state.log
        self._watch = Watch(clip_norm=_GRADIENT_NORM)
        for row in self.log:
            self._watch.see(row)

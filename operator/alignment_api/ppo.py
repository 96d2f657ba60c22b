"""`spec.training.ppo`, and what a cycle that trains by PPO must and must not have."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from alignment_api.model import Model, Rule


class PPO(Model):
    """Settings of the method PPO (docs/ppo.md)."""

    total_episodes: int = Field(
        10_000,
        ge=2,
        le=1_000_000_000,
        description="Completions sampled and trained on, in all; a last batch that would not be full is left out.",
    )
    epochs_per_batch: int = Field(
        4, ge=1, le=100, description="Optimizer steps on each batch of completions."
    )
    clip_range: float = Field(
        0.2, gt=0, lt=1, description="How far a step may move a token's probability ratio, and its value."
    )
    gamma: float = Field(1.0, gt=0, le=1, description="Discount a token.")
    gae_lambda: float = Field(
        0.95, ge=0, le=1, description="λ of the advantages: 0 trusts the values, 1 the rewards."
    )
    value_coefficient: float = Field(
        0.1, ge=0, le=100, description="Weight of the value loss; values and policy share the backbone."
    )
    target_kl: float = Field(
        0.1, gt=0, le=100, alias="targetKL", description="Nats a token; klControl says of what."
    )
    kl_control: Literal["Stop", "Adaptive"] = Field(
        "Stop",
        description="Stop: no more steps on a batch once the policy is targetKL from the one that sampled it. "
        "Adaptive: beta follows, so that the policy stays targetKL from the reference.",
    )
    missing_eos_penalty: float = Field(
        1.0,
        ge=0,
        le=1_000_000,
        alias="missingEOSPenalty",
        description="Taken from the score of a completion that was cut off at maxNewTokens.",
    )
    length_normalized_reward: bool = Field(
        False, description="True: the score is divided by the completion's tokens; for scores above 0."
    )
    whiten_rewards: bool = Field(
        True, description="True: a batch's rewards are divided by their standard deviation."
    )


def _other(training: Any) -> bool:
    return bool(training.method != "PPO")


def _batch(training: Any) -> int:
    return int(training.per_device_batch_size * training.gradient_accumulation_steps)


# The API server judges a default of the whole before those of its fields are filled in.
_OTHER = "!has(self.method) || self.method != 'PPO' || "

TRAINING_RULES = (
    Rule(
        cel="!has(self.ppo) || self.method == 'PPO'",
        message="is for method PPO alone; leave it out",
        field_path=".ppo",
        holds=lambda training: training.method == "PPO" or training.ppo is None,
    ),
    Rule(
        cel=f"{_OTHER}self.perDeviceBatchSize * self.gradientAccumulationSteps <= "
        "(has(self.ppo) ? self.ppo.totalEpisodes : 10000)",
        message="times perDeviceBatchSize is a batch of episodes, and must not exceed ppo.totalEpisodes",
        field_path=".gradientAccumulationSteps",
        holds=lambda training: _other(training) or _batch(training) <= (training.ppo or PPO()).total_episodes,
    ),
    Rule(
        cel=f"{_OTHER}(self.nodes == 1 && (!has(self.processesPerNode) || self.processesPerNode == 1))",
        message="must be 1 with PPO, and so must processesPerNode: it trains in one process",
        field_path=".nodes",
        holds=lambda training: (
            _other(training) or (training.nodes == 1 and training.processes_per_node in {None, 1})
        ),
    ),
    Rule(
        cel=f"{_OTHER}self.sharding == 'None'",
        message="must be None with PPO: it trains in one process",
        field_path=".sharding",
        holds=lambda training: _other(training) or training.sharding == "None",
    ),
    Rule(
        cel=f"{_OTHER}self.epochs == 1",
        message="must be 1 with PPO: ppo.totalEpisodes says how long it trains",
        field_path=".epochs",
        holds=lambda training: _other(training) or training.epochs == 1,
    ),
    Rule(
        cel=f"{_OTHER}self.precision != 'FP16'",
        message="must not be FP16 with PPO; write Auto, BF16 or FP32",
        field_path=".precision",
        holds=lambda training: _other(training) or training.precision != "FP16",
    ),
    Rule(
        cel=f"{_OTHER}!has(self.lora) || self.lora.dropout == 0.0",
        message="must be 0 with PPO: it compares what one network says of a token before and after a step",
        field_path=".lora.dropout",
        holds=lambda training: _other(training) or training.lora is None or training.lora.dropout == 0,
    ),
)

_OTHER_TRAINING = "self.training.method != 'PPO' || "

SPEC_RULES = (
    Rule(
        cel=f"{_OTHER_TRAINING}has(self.prompts)",
        message="is required with PPO: it samples from the policy while it trains",
        field_path=".prompts",
        holds=lambda spec: _other(spec.training) or spec.prompts is not None,
    ),
    Rule(
        cel=f"{_OTHER_TRAINING}(has(self.judge) && (has(self.judge.rewardModel) || has(self.judge.verifier)))",
        message="is required with PPO: a rewardModel or a verifier that scores every completion",
        field_path=".judge",
        holds=lambda spec: (
            _other(spec.training)
            or (spec.judge is not None and bool(spec.judge.reward_model or spec.judge.verifier))
        ),
    ),
    Rule(
        cel=f"{_OTHER_TRAINING}!has(self.judge) || (self.judge.pairs == 'BestWorst' && self.judge.minMargin == 0.0 && "
        "self.judge.shortCorrectPercent == 0.0 && !has(self.judge.lengthPenalty))",
        message="makes no pairs with PPO; leave pairs, minMargin, lengthPenalty and shortCorrectPercent out",
        field_path=".judge",
        holds=lambda spec: (
            _other(spec.training)
            or spec.judge is None
            or (
                spec.judge.pairs == "BestWorst"
                and spec.judge.min_margin == spec.judge.short_correct_percent == 0
                and spec.judge.length_penalty is None
            )
        ),
    ),
    Rule(
        cel=f"{_OTHER_TRAINING}has(self.reward) || (has(self.judge) && has(self.judge.rewardModel)) || "
        "!has(self.datasets) || size(self.datasets) == 0",
        message="has no use with PPO and a verifier: pairs only train or check a reward model; leave it out",
        field_path=".datasets",
        holds=lambda spec: (
            _other(spec.training)
            or spec.reward is not None
            or (spec.judge is not None and spec.judge.reward_model is not None)
            or not spec.datasets
        ),
    ),
    Rule(
        cel=f"{_OTHER_TRAINING}(self.sampling.shards == 1 && !has(self.sampling.server))",
        message="has neither shards nor a server with PPO, which samples in the stage train; leave them out",
        field_path=".sampling",
        holds=lambda spec: (
            _other(spec.training) or (spec.sampling.shards == 1 and spec.sampling.server is None)
        ),
    ),
    Rule(
        cel=f"{_OTHER_TRAINING}self.training.perDeviceBatchSize * self.training.gradientAccumulationSteps % "
        "self.sampling.completionsPerPrompt == 0",
        message="must divide a batch of PPO: training.perDeviceBatchSize times gradientAccumulationSteps",
        field_path=".sampling.completionsPerPrompt",
        holds=lambda spec: (
            _other(spec.training) or _batch(spec.training) % spec.sampling.completions_per_prompt == 0
        ),
    ),
    Rule(
        cel=f"{_OTHER_TRAINING}self.sampling.maxNewTokens < self.training.maxLength",
        message="must be below training.maxLength with PPO, which leaves the rest to the prompt",
        field_path=".sampling.maxNewTokens",
        holds=lambda spec: _other(spec.training) or spec.sampling.max_new_tokens < spec.training.max_length,
    ),
)

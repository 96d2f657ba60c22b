"""The settings of TRL's trainers, from those of spec.training and spec.reward."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from trl import RewardConfig

from alignment_api.cycle import RewardTraining, Training
from alignment_worker import gang, precision, train_zero3
from alignment_worker.failures import InvalidConfigError

_ACTIVATION_BYTES = 34  # a token, layer and hidden unit in 16 bits: Korthikanti et al. 2022, equation 2
_ACTIVATION_SHARE = 0.25  # of the memory that is free; weights, gradients and optimizer need the rest


def learning_rate(training: Training) -> float:
    """Raises InvalidConfigError if there is none: the operator fills the method's default in."""
    if training.learning_rate is None:
        raise InvalidConfigError("parameters.training.learningRate: is missing; give one")
    return training.learning_rate


def beta(training: Training) -> float:
    """Raises InvalidConfigError if there is none: the operator fills the method's default in."""
    if training.beta is None:
        raise InvalidConfigError("parameters.training.beta: is missing; give one")
    return training.beta


def computed_in(training: Training) -> torch.dtype:
    """Raises InvalidConfigError if this machine cannot compute in the precision asked for."""
    where = precision.device()
    dtype = precision.dtype_of(training.precision, where)
    if dtype is torch.float16 and where.type == "cpu":
        raise InvalidConfigError(
            "spec.training.precision: FP16 needs a GPU, and there is none; write Auto or FP32"
        )
    return dtype


def settings(training: Training, folder: Path, *, recompute: bool) -> dict[str, Any]:
    """Those that all trainers share. `recompute`: activations are computed again in the backward pass, not kept.

    Raises InvalidConfigError without a learning rate, or if this machine cannot compute in the precision asked for.
    """
    where, dtype = precision.device(), computed_in(training)
    common = {
        "output_dir": str(folder),
        "learning_rate": learning_rate(training),
        "num_train_epochs": training.epochs,
        "per_device_train_batch_size": training.per_device_batch_size,
        "gradient_accumulation_steps": training.gradient_accumulation_steps,
        "use_cpu": where.type == "cpu",
        "ddp_backend": "gloo" if where.type == "cpu" and gang.member() else None,
        "bf16": dtype is torch.bfloat16,
        "fp16": dtype is torch.float16,
        "activation_checkpointing": recompute,
        "save_strategy": "steps",
        "save_steps": training.checkpoint_every_steps,
        "save_only_model": training.sharding != "None",  # transformers' own checkpoints; ours hold everything
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "seed": training.seed,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": where.type == "cuda",
    }
    return common | (train_zero3.settings(dtype) if training.sharding == "ZeRO3" else {})


def reward_configuration(
    reward: RewardTraining, training: Training, folder: Path, *, recompute: bool
) -> RewardConfig:
    """Of the stage `reward`, which computes in one process and on one GPU. Raises InvalidConfigError."""
    own = {"learning_rate": reward.learning_rate, "epochs": reward.epochs, "sharding": "None"}
    shared = settings(training.model_copy(update=own), folder, recompute=recompute)
    config = RewardConfig(max_length=None, disable_dropout=False, **shared)  # both are seen to
    config._n_gpu = min(config.n_gpu, 1)
    return config


def made(
    training: Training, config: Callable[..., TrainingArguments], common: dict[str, Any]
) -> TrainingArguments:
    """The trainer's settings with the user's further ones, which beat ours."""
    return config(training, **(common | (training.arguments or {})))


def shown(arguments: Mapping[str, object]) -> str:
    """As a user wrote them."""
    return ", ".join(f"{name}: {value}" for name, value in arguments.items())


def check_warmup(config: TrainingArguments, steps: int) -> None:
    """Of a training of so many steps. Raises InvalidConfigError if it is over before the rate is what was asked for."""
    warmup = config.get_warmup_steps(steps)
    if warmup > steps:
        raise InvalidConfigError(
            f"spec.training.arguments.warmup_steps: {warmup}: the training has {steps} steps, and would end before it "
            "reaches its learning rate. Lower it; below 1 it is a share of the steps, so that 0.1 fits always."
        )


def must_recompute(model_config: Any, tokens: int) -> bool:
    """Whether the activations of a batch with so many tokens would take too much of the memory that is free.

    They are the same either way; keeping them is faster.
    """
    text = model_config.get_text_config()
    in_fp32 = 2 * _ACTIVATION_BYTES * tokens * text.num_hidden_layers * text.hidden_size
    return bool(in_fp32 > _ACTIVATION_SHARE * _free_bytes())


def _free_bytes() -> float:
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0])
    limits = [
        _number(path) for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
    ]
    meminfo = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable"))
    return min(float(available), *limits)


def _number(path: str) -> float:
    try:
        return float(Path(path).read_text())
    except (OSError, ValueError):
        return math.inf  # no limit, or `max`

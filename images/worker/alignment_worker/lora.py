"""Low-rank adapters: which modules they can sit on, and their configuration (Hu et al. 2021, by peft)."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from transformers.pytorch_utils import Conv1D

from alignment_api.cycle import Lora
from alignment_worker.failures import InvalidConfigError

ALL_LINEAR = "all-linear"


def configuration(lora: Lora, model: Any) -> LoraConfig:
    """For a causal model; the model may be on the meta device, for only its modules' names and kinds are read.

    Raises InvalidConfigError if a target module is not there, with the names that are.
    """
    targets = _targets(lora.target_modules, model)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )


def _targets(wanted: str, model: Any) -> str | list[str]:
    if wanted.strip() == ALL_LINEAR:
        return ALL_LINEAR
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    head = model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D) and module is not head
    ]
    unknown = [name for name in names if not any(_matches(path, name) for path in linear)]
    if unknown or not names:
        known = ", ".join(sorted({path.rpartition(".")[2] for path in linear}))
        wrong = ", ".join(unknown) or repr(wanted)
        raise InvalidConfigError(
            f"spec.training.lora.targetModules: {wrong}: the model has no such linear "
            f"layer that can be adapted; it has {known}. Name some of them, or write {ALL_LINEAR}."
        )
    return names


def _matches(path: str, name: str) -> bool:
    """As peft matches: the whole path, or its last parts."""
    return path == name or path.endswith("." + name)

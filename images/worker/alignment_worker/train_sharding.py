"""One model divided among the processes of a gang: weights, gradients and optimizer, by FSDP2 or DeepSpeed's ZeRO-3.

transformers divides the model while it loads it, so that no process ever holds all of it on its device, and sees to
the gradients. It does not resume such a training: what makes its checkpoints whole, and takes them apart again, is
here for FSDP2, and in train_zero3.py for ZeRO-3. A checkpoint has the files of an undivided training.

https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint import state_dict as whole
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers.distributed import DistributedConfig
from transformers.trainer import OPTIMIZER_NAME
from transformers.utils import SAFE_WEIGHTS_NAME

from alignment_api.cycle import Training
from alignment_worker import gang, train_config, train_zero3
from alignment_worker.failures import InvalidConfigError

Weights = dict[str, torch.Tensor]

_GATHERED = whole.StateDictOptions(full_state_dict=True, cpu_offload=True)  # in the first process alone
_SCATTERED = whole.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


def layout(training: Training, skeleton: Any) -> DistributedConfig | None:
    """How the model is divided; None: not at all. `skeleton` is the model without weights.

    Raises InvalidConfigError if there is one process alone, or the model's layers are not known to transformers.
    """
    if training.sharding == "None":
        return None
    if gang.size() == 1:
        raise InvalidConfigError(
            f"spec.training.sharding: {training.sharding} divides a model among processes, and there is one; "
            "raise nodes or processesPerNode, give the pod more GPUs, or write None"
        )
    if training.sharding == "ZeRO3":
        return None
    config = DistributedConfig(
        fsdp_size=gang.size(), fsdp_mixed_precision=train_config.computed_in(training) is torch.bfloat16
    )
    plan = skeleton.fsdp_plan
    layers = [name for name, style in plan.items() if style == "free_full_weight"]
    known = {name for name, _ in skeleton.named_modules()}
    if not all(name.replace("*", "0") in known for name in layers):
        raise InvalidConfigError(
            f"spec.training.sharding: {training.sharding}: transformers does not know the layers of "
            f"{type(skeleton).__name__}; write ZeRO3, which needs no names, or None"
        )
    return config


def is_divided(model: Any) -> bool:
    """Whether no process has all of it."""
    return train_zero3.divides(model) or any(isinstance(weight, DTensor) for weight in model.parameters())


def trains_shards(model: Any) -> bool:
    """Whether what is trained of it is divided. ZeRO-3 divides adapters, FSDP2 gives every process all of them."""
    trained = (weight for weight in model.parameters() if weight.requires_grad)
    return train_zero3.divides(model) or any(isinstance(weight, DTensor) for weight in trained)


def settle(model: Any) -> None:
    """Every process has its part alone again, behind a forward pass that no backward pass follows."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def own_part(weight: Any) -> torch.Tensor:
    """What this process has of it: all, if it is not divided."""
    if train_zero3.divided(weight):
        return train_zero3.own_part(weight)
    return weight.to_local() if isinstance(weight, DTensor) else weight


def undivided(model: Any) -> Weights:
    """Those that this process has all of: of a model that FSDP2 divided, the adapters."""
    return {name: value for name, value in model.state_dict().items() if not isinstance(value, DTensor)}


def gathered_weights(model: Any) -> Weights:
    """What was trained, on the CPU of the first process; all processes must ask, and the others get no shards."""
    if train_zero3.divides(model):
        return train_zero3.gathered_weights(model)
    if not trains_shards(model):
        return undivided(model)
    found: Weights = whole.get_model_state_dict(model, options=_GATHERED)
    return found


@dataclass(frozen=True)
class WholeState:
    """Weights and optimizer of a divided training, in the first process; empty in the others."""

    weights: Weights
    optimizer: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Raises OSError."""
        once = {value.data_ptr(): name for name, value in reversed(self.weights.items())}
        save_file({name: self.weights[name] for name in once.values()}, folder / SAFE_WEIGHTS_NAME)
        torch.save(self.optimizer, folder / OPTIMIZER_NAME)


def gathered_state(model: Any, optimizer: Any) -> WholeState:
    """All processes must ask."""
    state = (
        train_zero3.gathered_optimizer(model, optimizer)
        if train_zero3.divides(model)
        else whole.get_optimizer_state_dict(model, optimizer, options=_GATHERED)
    )
    return WholeState(gathered_weights(model), state)


def restore_weights(model: Any, folder: Path) -> None:
    """What `WholeState.write` wrote; all processes must ask. Raises OSError."""
    if train_zero3.divides(model):
        train_zero3.restore_weights(model, folder)
        return
    found = load_file(folder / SAFE_WEIGHTS_NAME) if gang.rank() == 0 else {}
    whole.set_model_state_dict(model, found, options=_SCATTERED)


def restore_optimizer(model: Any, optimizer: Any, folder: Path) -> None:
    """Likewise."""
    if train_zero3.divides(model):
        train_zero3.restore_optimizer(model, optimizer, folder)
        return
    file = folder / OPTIMIZER_NAME
    found = torch.load(file, map_location="cpu", weights_only=True) if gang.rank() == 0 else {}
    whole.set_optimizer_state_dict(model, optimizer, found, options=_SCATTERED)


def united(model: Any, weights: Weights, start: Any) -> Any:
    """`start`, undivided, with what was trained: the weights that were gathered of the model, or its adapters."""
    adapted = get_peft_model(start, model.peft_config["default"]) if isinstance(model, PeftModel) else start
    unknown = adapted.load_state_dict(
        weights, strict=False
    ).unexpected_keys  # in place: what is tied stays so
    assert not unknown, unknown
    return adapted

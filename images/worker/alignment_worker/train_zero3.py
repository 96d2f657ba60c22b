"""One model divided among the processes of a gang by DeepSpeed's ZeRO-3; train_sharding.py has the words for it.

transformers divides the model while it loads it, and DeepSpeed does the steps. Its own checkpoints are written by every
process, and can be read by as many processes alone; those here have the files of an undivided training.

https://deepspeed.readthedocs.io/en/latest/zero3.html
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import other as accelerate_models
from safetensors import safe_open
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from transformers.trainer import OPTIMIZER_NAME
from transformers.utils import SAFE_WEIGHTS_NAME
from trl.models.utils import prepare_deepspeed

from alignment_worker import gang

_PATIENCE = timedelta(minutes=30)  # as in other trainings; the first process may be writing a checkpoint


def config(computed_in: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's settings. transformers fills `auto` in: what spec.training says, and what fits the model's width.

    Weights stay in FP32, and BF16 is torch's autocast, as in an undivided training: DeepSpeed's own `bf16` would start
    the optimizer's weights from those that it has rounded. No module sums its gradients in BF16.
    """
    return {
        "zero_optimization": {
            "stage": 3,
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
        },
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "torch_autocast": {
            "enabled": computed_in is torch.bfloat16,
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        },
    }


def settings(computed_in: torch.dtype) -> dict[str, Any]:
    """Of the trainer, where they differ from those of other trainings."""
    return {
        "deepspeed": config(computed_in),
        "accelerator_config": {"use_configured_state": True},  # that of `connect`
        "use_cpu": False,  # or Accelerate does without DeepSpeed; it takes the CPU where there is no GPU
        "bf16": False,  # DeepSpeed has it from its config
    }


def connect(where: torch.device) -> None:
    """The processes of the gang, before the trainer's settings are made, which know no DeepSpeed on CPUs."""
    os.environ["DS_ACCELERATOR"] = where.type  # or it looks for devices of all makes
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    import deepspeed  # noqa: PLC0415 - it acts on the environment, and few trainings need it

    deepspeed.ops.__compatible_ops__ = {}  # none is compiled, for the image has no compiler
    PartialState(backend="gloo" if where.type == "cpu" else None, timeout=_PATIENCE)


@contextmanager
def without_deepspeed() -> Iterator[None]:
    """Accelerate loads DeepSpeed, seconds and a warning on CPUs, only to see that a model is none of its engines."""
    loads = accelerate_models.is_deepspeed_available
    accelerate_models.is_deepspeed_available = lambda: "deepspeed" in sys.modules
    try:
        yield
    finally:
        accelerate_models.is_deepspeed_available = loads


def leave() -> None:
    """Models are loaded as a whole again."""
    unset_hf_deepspeed_config()


def divides(model: Any) -> bool:
    """Whether it has weights that are divided. Adapters are from the first step on."""
    return any(map(divided, model.parameters()))


def divided(weight: Any) -> bool:
    return hasattr(weight, "ds_id")


def own_part(weight: Any) -> torch.Tensor:
    """What this process has of it, without what fills it up where it cannot be divided evenly: that is any number."""
    size = weight.ds_tensor.numel()
    part: torch.Tensor = weight.ds_tensor[: max(0, weight.ds_numel - size * gang.rank())]
    return part


def part_of(whole: torch.Tensor, weight: Any) -> torch.Tensor:
    """Likewise, of something as large as the weight, filled up as DeepSpeed does."""
    size = weight.ds_tensor.numel()
    own = whole.flatten()[size * gang.rank() :][:size]
    return torch.nn.functional.pad(own, (0, size - own.numel()))


@contextmanager
def forward(model: Any, accelerator: Any) -> Iterator[Any]:
    """What computes with the model before it is trained: only an engine of DeepSpeed collects its layers' weights."""
    engine = prepare_deepspeed(model, accelerator)
    try:
        yield engine
    finally:
        engine.destroy()


def let_go(engine: Any) -> None:
    """The memory of a model that is of no more use: DeepSpeed holds on to its engines, and so to their models."""
    engine.destroy()
    for weight in engine.module.parameters():
        weight.data = weight.new_empty(0)
        weight.ds_tensor.data = weight.new_empty(0)


def gathered_weights(model: Any) -> dict[str, torch.Tensor]:
    """Those that are trained, on the CPU of the first process; all processes must ask, and the others get none."""
    from deepspeed.runtime.zero import GatheredParameters  # noqa: PLC0415 - as above

    found: dict[str, torch.Tensor] = {}
    for weight, names in _trained(model):
        with GatheredParameters([weight]):
            if gang.rank() == 0:
                found |= dict.fromkeys(names, weight.detach().to("cpu", copy=True))
    return found


def gathered_optimizer(model: Any, optimizer: Any) -> dict[str, Any]:
    """Likewise, in the form of `torch.distributed.checkpoint.state_dict`, but that groups do not name their weights."""
    from deepspeed.utils import safe_get_full_optimizer_state  # noqa: PLC0415 - as above

    inner = optimizer.optimizer
    flat = inner.fp32_partitioned_groups_flat[0]
    scalars = {key: value for key, value in inner.state[flat].items() if not _is_divided(value, flat)}
    state = {}
    for weight, names in _trained(model):
        whole = {
            key: safe_get_full_optimizer_state(weight, key)
            for key, value in inner.state[flat].items()
            if _is_divided(value, flat)
        }
        if gang.rank() == 0:
            state[names[0]] = scalars | {key: value.to("cpu", copy=True) for key, value in whole.items()}
    return {"state": state, "param_groups": [{**group, "params": []} for group in inner.param_groups]}


def restore_weights(model: Any, folder: Path) -> None:
    """What `gathered_weights` gave, from the first process to all. Raises OSError."""
    from deepspeed.runtime.zero import GatheredParameters  # noqa: PLC0415 - as above
    from deepspeed.utils import safe_set_local_fp32_param  # noqa: PLC0415 - as above

    with safe_open(folder / SAFE_WEIGHTS_NAME, framework="pt") as file:
        stored = set(file.keys())
        for weight, names in _trained(model):
            with GatheredParameters([weight], modifier_rank=0), torch.no_grad():
                if gang.rank() == 0:
                    weight.copy_(file.get_tensor(next(name for name in names if name in stored)))
            safe_set_local_fp32_param(weight, weight.ds_tensor)  # the optimizer has a copy of its own


def restore_optimizer(model: Any, optimizer: Any, folder: Path) -> None:
    """What `gathered_optimizer` gave: every process reads its part. Raises OSError."""
    from deepspeed.utils import safe_set_local_optimizer_state  # noqa: PLC0415 - as above

    found = torch.load(folder / OPTIMIZER_NAME, map_location="cpu", mmap=True, weights_only=True)
    inner = optimizer.optimizer
    some = next(iter(found["state"].values()))
    inner._set_fp32_optimizer_param_groups()  # its groups are empty between two steps
    state: dict[int, dict[str, Any]] = {}
    for group, stored in zip(inner.param_groups, found["param_groups"], strict=True):
        stored["params"] = range(len(state), len(state) + len(group["params"]))
        state |= {
            number: {
                key: torch.zeros_like(flat) if value.ndim else value.clone() for key, value in some.items()
            }
            for number, flat in zip(stored["params"], group["params"], strict=True)
        }
    inner.optimizer.load_state_dict({"state": state, "param_groups": found["param_groups"]})
    inner._clear_fp32_optimizer_param_groups()
    for weight, names in _trained(model):
        for key, value in found["state"][names[0]].items():
            if value.ndim:
                safe_set_local_optimizer_state(weight, part_of(value, weight), key)


def _trained(model: Any) -> list[tuple[Any, list[str]]]:
    """Each with its names: what is tied has several."""
    found: dict[int, tuple[Any, list[str]]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        if weight.requires_grad:
            found.setdefault(id(weight), (weight, []))[1].append(name)
    return list(found.values())


def _is_divided(value: Any, flat: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and bool(value.shape == flat.shape)

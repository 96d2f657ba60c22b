"""Which device, and in which precision it computes."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def device() -> torch.device:
    """The accelerator if there is one, else the CPU with no more threads than the container was granted."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    granted = _granted_processors()
    if granted is not None and "OMP_NUM_THREADS" not in os.environ and granted < torch.get_num_threads():
        torch.set_num_threads(granted)
    return torch.device("cpu")


def dtype_of(precision: str, where: torch.device) -> torch.dtype:
    """`precision` is spec.training.precision; Auto is what is fastest: BF16 on GPUs that have it, FP32 elsewhere.

    On CPUs bf16 is several times slower than fp32.
    """
    if precision == "Auto":
        has_bf16 = where.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float32
    return {"BF16": torch.bfloat16, "FP16": torch.float16, "FP32": torch.float32}[precision]


def _granted_processors() -> int | None:
    """The container's CPU limit, rounded up; None without one. torch counts the node's processors instead."""
    try:
        quota, period = _CPU_MAX.read_text().split()
        return max(1, -(-int(quota) // int(period)))
    except (OSError, ValueError):
        return None

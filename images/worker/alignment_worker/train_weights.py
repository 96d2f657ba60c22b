"""The trained model's folder: the start's files with new weights, in the start's precision.

Master weights are FP32, and storing them in BF16 can round a small update away: what is stored is compared with
the start.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import GenerationConfig

from alignment_api import digests
from alignment_worker import models, train_zero3

_WEIGHTS = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".gguf",
    ".onnx",
    ".index.json",
)
_ABOUT_THE_START = ("README.md", digests.SIGNATURE_FILE)
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_TEMPLATES = "additional_chat_templates"


@dataclass(frozen=True)
class Change:
    """Numbers in the weights, and how many of them the training changed as they are stored."""

    parameters: int
    changed: int
    finite: bool


def store(model: Any, start: Path, folder: Path) -> None:
    """A folder that loads as the start's does; `model` is rounded to what is stored. Raises OSError."""
    dtypes = _stored_dtypes(start)
    common = Counter(dtypes.values()).most_common(1)[0][0]
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(dtypes.get(name, common))
    model.generation_config = GenerationConfig()  # the start's own is copied, and might not pass a check now
    with train_zero3.without_deepspeed():
        model.save_pretrained(folder)
    for file in folder.iterdir():
        if not _is_weights(file):
            file.unlink()
    for file in start.iterdir():
        if file.is_file() and not _is_weights(file) and file.name not in _ABOUT_THE_START:
            shutil.copyfile(file, folder / file.name)
    if (start / _TEMPLATES).is_dir():
        shutil.copytree(start / _TEMPLATES, folder / _TEMPLATES)


def change(start: Path, stored: Path) -> Change:
    """Compare two folders as they load. Raises InvalidModelError."""
    before = models.load_weights("start", start, "auto").state_dict()
    after = models.load_weights("model", stored, "auto").state_dict()
    pairs = [(before[name], value) for name, value in _distinct(after).items()]
    return Change(
        parameters=sum(new.numel() for _, new in pairs),
        changed=sum(int((old != new).sum()) for old, new in pairs),
        finite=finite(new for _, new in pairs),
    )


def finite(weights: Iterable[torch.Tensor]) -> bool:
    """Whether all of them are numbers."""
    return all(bool(torch.isfinite(each).all()) for each in weights)


def _distinct(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tied weights once."""
    return dict({value.data_ptr(): (name, value) for name, value in state.items()}.values())


def _stored_dtypes(folder: Path) -> dict[str, torch.dtype]:
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                found[name] = _DTYPES.get(tensors.get_slice(name).get_dtype(), torch.float32)
    return found


def _is_weights(file: Path) -> bool:
    return file.name.endswith(_WEIGHTS)

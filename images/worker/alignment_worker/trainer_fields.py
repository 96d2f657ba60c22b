"""`python -m alignment_worker.trainer_fields --write|--check`: which of the trainers' settings a user may give.

Writes alignment_api/trainer_fields.py from the config classes of TRL and transformers: names and types are theirs, the
choice is made here. Chosen is what shapes the optimizer, the schedule or the loss; not what is a field of
spec.training, moves or names files, logs, evaluates, spreads over processes, or changes which tokens are trained on.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames
from trl import DPOConfig, KTOConfig, SFTConfig

import alignment_api

_CONFIGS = {"DPO": DPOConfig, "IPO": DPOConfig, "KTO": KTOConfig, "BestOfN": SFTConfig}
_CHOSEN = (
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "desirable_weight",
    "f_alpha_divergence_coef",
    "f_divergence_type",
    "lr_scheduler_type",
    "max_grad_norm",
    "optim",
    "torch_empty_cache_steps",
    "undesirable_weight",
    "use_weighting",
    "warmup_steps",
    "weight_decay",
)
# Those that need nothing which is not installed, and no further settings.
_VALUES = {
    "f_divergence_type": ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"),
    "lr_scheduler_type": tuple(
        SchedulerType(name).value
        for name in (
            "linear",
            "cosine",
            "cosine_with_restarts",
            "polynomial",
            "constant",
            "constant_with_warmup",
            "inverse_sqrt",
        )
    ),
    "optim": tuple(
        OptimizerNames(name).value
        for name in ("adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "rmsprop", "sgd")
    ),
}
_FILE = Path(alignment_api.__file__).parent / "trainer_fields.py"


def main() -> int:
    """Exit status 1 if the file is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true")
    mode.add_argument("--check", action="store_true")
    wanted = text()
    if parser.parse_args().write:
        _FILE.write_text(wanted)
    elif not _FILE.is_file() or _FILE.read_text() != wanted:
        print(f"{_FILE} is stale: run make arguments", file=sys.stderr)
        return 1
    return 0


def text() -> str:
    """The file, as the formatter leaves it."""
    allowed = "".join(f'"{method}": {_entries(config)},' for method, config in _CONFIGS.items())
    found = (
        '"""Generated from the trainers\' config classes by `make arguments`. Do not edit."""\n\n'
        f"ALLOWED: dict[str, dict[str, type | tuple[str, ...]]] = {{{allowed}}}\n"
    )
    ruff = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(_FILE), "-"]
    return subprocess.run(ruff, input=found, capture_output=True, text=True, check=True).stdout


def _entries(config: type) -> str:
    hints = typing.get_type_hints(config)
    names = {field.name for field in dataclasses.fields(config)}
    return "{" + "".join(f'"{name}": {_kind(name, hints[name])},' for name in _CHOSEN if name in names) + "}"


def _kind(name: str, hint: Any) -> str:
    if name in _VALUES:
        return repr(_VALUES[name])
    (kind,) = [choice for choice in typing.get_args(hint) or (hint,) if choice is not type(None)]
    return str(kind.__name__)


if __name__ == "__main__":
    sys.exit(main())

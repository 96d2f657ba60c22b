"""The training log: one JSON line a step, and what the report takes from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from alignment_api.measurements import REWARD_MARGIN, TRAIN_LOSS, Measurement

# By the names of TRL's trainers, which log what their method has. Log-probabilities and rewards are means over the
# step's pairs or rows; kl is KTO's estimate in nats, tokenAccuracy the share of tokens that were the likeliest;
# margin and accuracy are the stage reward's, of scores.
_COLUMNS = {
    "step": "step",
    "epoch": "epoch",
    "loss": "loss",
    "learning_rate": "learningRate",
    "grad_norm": "gradientNorm",
    "rewards/margins": "rewardMargin",
    "rewards/accuracies": "rewardAccuracy",
    "rewards/chosen": "rewardChosen",
    "rewards/rejected": "rewardRejected",
    "answer_tokens": "answerTokens",
    "logps/chosen": "logProbabilityChosen",
    "logps/rejected": "logProbabilityRejected",
    "entropy": "entropy",
    "kl": "kl",
    "mean_token_accuracy": "tokenAccuracy",
    "margin": "margin",
    "accuracy": "accuracy",
}


def steps_of(history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of the trainer's history, the rows of optimizer steps, under our names."""
    return [
        {ours: entry[theirs] for theirs, ours in _COLUMNS.items() if theirs in entry}
        for entry in history
        if "loss" in entry
    ]


def write(path: Path, steps: Iterable[Mapping[str, Any]]) -> None:
    """JSON Lines, with null for what is no finite number. Raises OSError."""
    lines = (json.dumps({name: _finite(value) for name, value in step.items()}) for step in steps)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def measured(steps: list[dict[str, Any]]) -> dict[str, Measurement]:
    """Means over the last tenth of the steps, at least one; of those that have the column."""
    last = steps[-max(1, len(steps) // 10) :]
    return {
        name: Measurement(estimate=fmean(values), n=len(values))
        for name, column in ((TRAIN_LOSS, "loss"), (REWARD_MARGIN, "rewardMargin"))
        if (values := [step[column] for step in last if column in step])
    }

"""Pairs that a tiny model can learn, and the stage `reward` as a Job runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alignment_api.cycle import DatasetReference, RewardTraining
from alignment_api.stage import InputKind, RewardParameters, StageConfig
from tests.worker import stages, tiny, training
from tests.worker.stages import Finished, an_input

FILLER = "abcdefgh"


def separable(count: int = 120, *, swapped: bool = False) -> list[dict[str, Any]]:
    """Whoever says yes is preferred to who says no, whatever else they say; one pair a prompt."""
    rows = []
    for number in range(count):
        said = FILLER[number % 8 :] + FILLER[: number % 5]
        better, worse = f"{said} yes {number % 10}", f"{said} no {number % 7}"
        chosen, rejected = (worse, better) if swapped else (better, worse)
        rows.append({"prompt": f"ask {number}", "chosen": chosen, "rejected": rejected})
    return rows


def contradictory(count: int = 240) -> list[dict[str, Any]]:
    """Of every two pairs one prefers what the other does not: nothing can be learned from them."""
    straight, swapped = separable(count), separable(count, swapped=True)
    return [(straight, swapped)[number // 2 % 2][number] for number in range(count)]


def config(
    folder: Path,
    backbone: Path,
    pairs: dict[str, list[dict[str, Any]]],
    *,
    max_pairs: int | None = None,
    reward: dict[str, Any] | None = None,
    **settings: Any,
) -> StageConfig:
    """By dataset; `reward` and `settings` are those of spec.reward and spec.training."""
    inputs = {
        "backbone": an_input(backbone, InputKind.MODEL),
        "goldSet": an_input(
            tiny.write_rows(folder / "data" / "gold.jsonl", tiny.gold_rows()), InputKind.GOLD_SET
        ),
        "heldOutPrompts": an_input(
            tiny.write_rows(folder / "data" / "heldout.jsonl", tiny.held_out_rows()), InputKind.PROMPTS
        ),
    }
    for name, rows in pairs.items():
        dataset = folder / "datasets" / name
        if not dataset.exists():
            training.sealed(dataset, "pairs.jsonl", rows)
        inputs[f"dataset/{name}"] = an_input(dataset, InputKind.STAGE)
    wanted: dict[str, Any] = {"model": backbone.as_uri(), "epochs": 4, "learning_rate": 3e-3, "min_pairs": 2}
    parameters = RewardParameters(
        reward=RewardTraining(**(wanted | (reward or {}))),
        training=training.training(**({"per_device_batch_size": 8} | settings)),
        datasets=[DatasetReference(name=name, max_pairs=max_pairs) for name in pairs],
        confidence_percent=95,
    )
    return stages.config(folder / "reward", inputs, parameters, seed=0)


def rewarded(folder: Path, backbone: Path, rows: list[dict[str, Any]], **settings: Any) -> Finished:
    return stages.run(folder / "job", config(folder, backbone, {"people": rows}, **settings))

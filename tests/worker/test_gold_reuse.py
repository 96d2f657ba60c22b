"""Greedy gold answers of a checkpoint are given once, and taken from then on by whoever would give the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alignment_api.measurements import GOLD
from alignment_api.stage import InputKind, StageConfig
from tests.worker import tiny
from tests.worker.loop import Loop
from tests.worker.stages import Finished, an_input, run


@pytest.fixture
def loop(tmp_path: Path, llama: Path, other_llama: Path, reward: Path) -> Loop:
    copies = {}
    for name, folder in (("policy", llama), ("candidate", other_llama), ("reward", reward)):
        copies[name] = Path(shutil.copytree(folder, tmp_path / name))
    return Loop(tmp_path, **copies)


def evaluated(
    loop: Loop, number: int, change: Callable[[StageConfig], StageConfig] | None = None
) -> Finished:
    """In that iteration's folder."""
    output = f"file://{loop.folder}/iterations/{number}/evaluate"
    config = loop.evaluate().model_copy(update={"iteration": number, "output": output, "seed": number})
    done = run(loop.folder / f"job-{number}", change(config) if change else config)
    assert done.code == 0, done.failure
    return done


def texts(done: Finished, name: str) -> list[Any]:
    return [row[name]["texts"] for row in done.rows("gold.jsonl")]


def with_gold(**settings: Any) -> Callable[[StageConfig], StageConfig]:
    def change(config: StageConfig) -> StageConfig:
        parameters: Any = config.parameters
        gold_set = parameters.gold_set.model_copy(update=settings)
        return config.model_copy(update={"parameters": parameters.model_copy(update={"gold_set": gold_set})})

    return change


def promoted(config: StageConfig) -> StageConfig:
    """The iteration after a promotion: the candidate is the incumbent, and the incumbent plays the candidate."""
    inputs = config.inputs
    swapped = {"policy": inputs["candidate"], "candidate": inputs["policy"]}
    return config.model_copy(update={"inputs": inputs | swapped})


def test_a_checkpoint_is_asked_once_whatever_it_plays(loop: Loop) -> None:
    first = evaluated(loop, 1)
    assert first.result.counts["goldReused"] == 0
    again = evaluated(loop, 2)
    assert again.result.counts["goldReused"] == 2 * first.result.counts["goldItems"]
    turned = evaluated(loop, 3, promoted)
    assert turned.result.counts["goldReused"] == 2 * first.result.counts["goldItems"]
    for name, other in (("candidate", "incumbent"), ("incumbent", "candidate")):
        assert texts(first, name) == texts(again, name) == texts(turned, other)
    for category, found in first.result.by_category.items():
        assert again.result.by_category[category][GOLD] == found[GOLD]


def test_held_out_answers_are_drawn_anew(loop: Loop) -> None:
    first, again = evaluated(loop, 1), evaluated(loop, 2)
    assert first.rows("answers.jsonl") != again.rows("answers.jsonl")


def another_gold_set(loop: Loop) -> Callable[[StageConfig], StageConfig]:
    file = tiny.write_rows(loop.folder / "data" / "other.jsonl", tiny.gold_rows(6))
    gold = {"goldSet": an_input(file, InputKind.GOLD_SET)}
    return lambda config: config.model_copy(update={"inputs": config.inputs | gold})


def test_another_gold_set_other_sampling_or_another_template_is_asked_anew(loop: Loop) -> None:
    evaluated(loop, 1)
    assert evaluated(loop, 2, with_gold(max_new_tokens=9)).result.counts["goldReused"] == 0
    drawn = with_gold(temperature=0.7, samples_per_item=2)
    assert evaluated(loop, 3, drawn).result.counts["goldReused"] == 0
    assert evaluated(loop, 4, drawn).result.counts["goldReused"] == 0
    assert evaluated(loop, 5, another_gold_set(loop)).result.counts["goldReused"] == 0
    (loop.policy / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    again = evaluated(loop, 6)
    assert again.result.counts["goldReused"] == again.result.counts["goldItems"]


def test_later_iterations_and_damaged_ones_are_left_alone(loop: Loop) -> None:
    evaluated(loop, 5)
    assert evaluated(loop, 3).result.counts["goldReused"] == 0
    shutil.rmtree(loop.folder / "iterations" / "3")
    file = next((loop.folder / "iterations" / "5" / "evaluate").glob("run-*/gold.jsonl"))
    file.write_text(file.read_text().replace('"texts":["', '"texts":["changed ', 1))
    assert evaluated(loop, 7).result.counts["goldReused"] == 0
    for manifest in (loop.folder / "iterations").glob("*/evaluate/manifest.json"):
        manifest.write_text("{")
    assert evaluated(loop, 8).result.counts["goldReused"] == 0

"""The stage train flags prompts that resemble gold or held-out ones, and trains on them all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from alignment_api.cycle import DatasetReference
from alignment_api.stage import ExitCode, InputKind, TrainParameters
from alignment_worker import models
from tests.worker import tiny, training
from tests.worker.training import Finished

GOLD, HELD_OUT = "how many cows are there", "write a poem"
NEAR = ["how many cows are there now", "how many cats are there", "write a poem."]
PROMPTS = [*NEAR, "write a poem", "0123456789", "zzzzzz"]


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llama(tmp_path_factory.mktemp("embedding"), seed=3)


def trained(folder: Path, start: Path, embedding: Path, least_percent: float | None) -> Finished:
    gold = [{"prompt": GOLD, "answer": "17", "grader": "Numeric", "category": "sums"}]
    data = {
        "prompts": (InputKind.PROMPTS, [{"prompt": prompt} for prompt in PROMPTS]),
        "goldSet": (InputKind.GOLD_SET, gold),
        "heldOutPrompts": (InputKind.PROMPTS, [{"prompt": HELD_OUT}]),
    }
    inputs = {role: (tiny.write_rows(folder / role, rows), kind) for role, (kind, rows) in data.items()}
    pairs = [{"prompt": prompt, "chosen": "yes", "rejected": f"no {n}"} for prompt in PROMPTS for n in (1, 2)]
    inputs |= {
        "start": (start, InputKind.MODEL),
        "reference": (start, InputKind.MODEL),
        "embedding": (embedding, InputKind.EMBEDDING_MODEL),
        "dataset/people": (training.sealed(folder / "people", "pairs.jsonl", pairs), InputKind.STAGE),
    }
    parameters = TrainParameters(
        training=training.training(epochs=1),
        datasets=[DatasetReference(name="people")],
        near_percent=least_percent,
    )
    return training.finish(training.config(folder / "out", inputs, parameters), folder / "job")


def alike(embedding: Path, one: str, other: str) -> float:
    """100 times the cosine of the means of the last layer's states, each text by itself."""
    model = AutoModel.from_pretrained(embedding, dtype=torch.float32).eval()
    tokenizer = models.load_tokenizer(embedding)
    with torch.inference_mode():
        means = [
            model(torch.tensor([tokenizer(text).input_ids])).last_hidden_state[0].mean(dim=0)
            for text in (one, other)
        ]
    return 100 * float(torch.cosine_similarity(*means, dim=0))


def test_what_is_alike_is_counted_and_shown_and_trained_on(tmp_path: Path, embedding: Path) -> None:
    start = training.llama(tmp_path / "start")
    everything = trained(tmp_path / "all", start, embedding, 0)
    assert everything.report.result is not None, everything.report.failure
    shown: list[dict[str, Any]] = [
        json.loads(line)
        for line in (everything.run_folder / "near-duplicates.jsonl").read_text().splitlines()
    ]
    assert [row["percent"] for row in shown] == sorted((row["percent"] for row in shown), reverse=True)
    for row in shown:
        measured = {"goldSet": GOLD, "heldOutPrompts": HELD_OUT}
        assert row["percent"] == pytest.approx(
            alike(embedding, row["prompt"], row["measuredPrompt"]), abs=0.1
        )
        assert row["measuredPrompt"] == measured[row["measuredOn"]]
        assert row["percent"] == pytest.approx(
            max(alike(embedding, row["prompt"], text) for text in measured.values()), abs=0.1
        )
    assert {row["prompt"] for row in shown} < set(PROMPTS), (
        "those that are the same are left out by the exact rule"
    )
    counts = everything.report.result.counts
    looked_at = len({row["prompt"] for row in shown if row["source"] == "prompts"})
    assert counts["nearPrompts"] == counts["nearPromptsGiven"] == looked_at == 4
    assert counts["nearRows"] == counts["nearRowsGiven"] == 4, "each prompt once a source"

    least = shown[1]["percent"] - 0.05
    some = trained(tmp_path / "some", start, embedding, least)
    assert some.report.result is not None
    expected = [row for row in shown if row["percent"] >= least]
    assert some.report.result.counts["nearPrompts"] == sum(row["source"] == "prompts" for row in expected)
    assert some.report.result.counts["pairs"] == counts["pairs"]


def test_without_an_embedding_nothing_is_looked_for(tmp_path: Path, embedding: Path) -> None:
    done = trained(tmp_path, training.llama(tmp_path / "start"), embedding, None)
    assert done.report.result is not None, done.report.failure
    assert "nearPrompts" not in done.report.result.counts
    assert not (done.run_folder / "near-duplicates.jsonl").exists()


def test_a_folder_that_is_no_model_is_refused_before_training(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = trained(tmp_path, training.llama(tmp_path / "start"), empty, 90)
    assert done.code == ExitCode.INVALID_MODEL
    assert done.report.failure is not None
    assert done.report.failure.message.startswith("embedding: ")

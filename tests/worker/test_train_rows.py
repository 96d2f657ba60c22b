"""What stands beside a model of the rows that it was trained on, and what the next training makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from alignment_api import digests
from alignment_api.cycle import DatasetReference
from alignment_api.stage import ExitCode, InputKind, TrainParameters
from tests.worker import training
from tests.worker.training import Finished

PEOPLE: list[dict[str, Any]] = [
    {"prompt": f"Say  {n}!", "chosen": f" yes {n}", "rejected": f" no {n}"} for n in range(12)
]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.llama(tmp_path_factory.mktemp("llama"))


def finished(
    folder: Path,
    start: Path,
    people: list[dict[str, Any]],
    *,
    sampled: int = 0,
    max_pairs: int | None = None,
    method: str = "DPO",
) -> Finished:
    dataset = training.sealed(folder / "people", "pairs.jsonl", people)
    inputs = {
        "start": (start, InputKind.MODEL),
        "reference": (start, InputKind.MODEL),
        "dataset/people": (dataset, InputKind.STAGE),
    }
    if sampled:
        pairs = [row | {"line": 7 + line} for line, row in enumerate(training.sampled_pairs(sampled))]
        inputs["pairs"] = (training.sealed(folder / "judge", "pairs.jsonl", pairs), InputKind.STAGE)
    parameters = TrainParameters(
        training=training.training(epochs=1, method=method),
        datasets=[DatasetReference(name="people", max_pairs=max_pairs)],
    )
    return training.finish(training.config(folder / "out", inputs, parameters), folder / "job")


def learned_of(done: Finished) -> list[str]:
    return (done.run_folder / "learned-pairs.txt").read_text().split()


def rows_of(done: Finished) -> list[dict[str, Any]]:
    assert done.code == 0, done.report.failure
    return [json.loads(line) for line in (done.run_folder / "rows.jsonl").read_text().splitlines()]


def counts_of(done: Finished) -> dict[str, int]:
    assert done.report.result is not None, done.report.failure
    return done.report.result.counts


def prompts_of(done: Finished) -> set[str]:
    return {row["prompt"] for row in rows_of(done) if row["origin"] == "dataset"}


def test_every_trained_row_says_where_it_is_from(tmp_path: Path, llama: Path) -> None:
    done = finished(tmp_path, llama, PEOPLE, sampled=3, max_pairs=5)
    sampled, drawn = rows_of(done)[:3], rows_of(done)[3:]
    assert [(row["origin"], row["iteration"], row["line"]) for row in sampled] == [
        ("sampled", 1, 7), ("sampled", 1, 8), ("sampled", 1, 9),
    ]  # fmt: skip
    revision = digests.of_file(tmp_path / "people" / "manifest.json")
    assert [(row["origin"], row["name"], row["revision"]) for row in drawn] == [
        ("dataset", "people", revision)
    ] * 5
    for row in drawn:
        asked = PEOPLE[row["row"] - 1]
        # Equal for prompts that ask the same, as in the check against gold and held-out prompts.
        assert row["prompt"] == digests.of_bytes(f"say {row['row'] - 1}".encode())
        assert row["pair"] == digests.of_json([asked["prompt"], asked["chosen"], asked["rejected"]])
    manifest = json.loads((done.folder / "manifest.json").read_bytes())
    assert f"{manifest['run']}/rows.jsonl" in manifest["files"]


def test_a_training_draws_the_pairs_that_its_start_has_not_learned_from(tmp_path: Path, llama: Path) -> None:
    first = finished(tmp_path / "1", llama, PEOPLE, max_pairs=5)
    second = finished(tmp_path / "2", first.model, PEOPLE, max_pairs=5)
    # Row 0 is gone, a new one is there, and the others stand in another order: edited, as datasets are.
    edited = [{"prompt": "new", "chosen": " a", "rejected": " b"}, *reversed(PEOPLE[1:])]
    third = finished(tmp_path / "3", second.model, edited)
    draws = [prompts_of(done) for done in (first, second, third)]
    assert [len(draw) for draw in draws[:2]] == [5, 5]
    assert not draws[0] & draws[1]
    assert not draws[2] & (draws[0] | draws[1])
    assert third.report.result is not None
    counts = third.report.result.counts
    assert counts["pairs"] + counts["droppedLearned"] == 12
    assert digests.of_bytes(b"new") in draws[2]
    # A candidate that was refused is no start: from the incumbent all is there again.
    assert prompts_of(finished(tmp_path / "again", llama, PEOPLE, max_pairs=5)) == draws[0]


def test_kto_does_not_learn_from_an_unpaired_row_again(tmp_path: Path, llama: Path) -> None:
    thumbs = [{"prompt": f"t{n}", "completion": f" said {n}", "label": n % 2 == 0} for n in range(12)]
    first = finished(tmp_path / "1", llama, [*PEOPLE[:4], *thumbs[:6]], method="KTO")
    row = next(row for row in rows_of(first) if row["row"] == 5)
    assert row["pair"] == digests.of_json(["t0", " said 0", True])
    # A training that passes unpaired rows over does not forget that they were learned from.
    second = finished(tmp_path / "2", first.model, [*PEOPLE, *thumbs])
    assert counts_of(second)["droppedUnpaired"] == 12
    again = finished(tmp_path / "3", second.model, [*PEOPLE, *thumbs], method="KTO")
    assert {row["prompt"] for row in rows_of(again)} == {
        digests.of_bytes(f"t{n}".encode()) for n in range(6, 12)
    }
    counts = counts_of(again)
    assert (counts["pairs"], counts["unpaired"], counts["droppedLearned"]) == (0, 6, 18)
    assert (counts["desirable"], counts["undesirable"], counts["steps"]) == (3, 3, 2)
    # The other label is another row: people change their minds.
    changed = [row | {"label": not row["label"]} for row in thumbs]
    assert counts_of(finished(tmp_path / "4", again.model, changed, method="KTO"))["unpaired"] == 12


def test_kto_learns_again_from_what_its_batches_had_no_room_for(tmp_path: Path, llama: Path) -> None:
    """Five rows of one prompt, and one batch: four of them would stand beside another of their own."""
    crowd = [{"prompt": "x", "completion": f"a{n}", "label": True} for n in range(5)]
    done = finished(
        tmp_path, llama, [*crowd, {"prompt": "y", "completion": "b", "label": False}], method="KTO"
    )
    assert done.report.result is not None, done.report.failure
    assert done.report.result.counts["droppedSamePrompt"] == 4
    assert len(rows_of(done)) == len(learned_of(done)) == 2


def test_what_is_remembered_does_not_outgrow_the_datasets(tmp_path: Path, llama: Path) -> None:
    first = finished(tmp_path / "1", llama, PEOPLE)
    new = [{"prompt": prompt, "chosen": "a", "rejected": "b"} for prompt in ("x", "y")]
    second = finished(tmp_path / "2", first.model, [*PEOPLE[:2], *new])
    assert len(learned_of(first)) == 12
    assert len(learned_of(second)) == 4


def test_a_dataset_that_is_used_up_is_said(tmp_path: Path, llama: Path) -> None:
    first = finished(tmp_path / "1", llama, PEOPLE)
    done = finished(tmp_path / "2", first.model, PEOPLE)
    assert done.code == ExitCode.TOO_FEW_PAIRS
    assert done.report.failure is not None
    assert "12 were trained on already by what the start has come from" in done.report.failure.message
    assert "spec.policy.start Initial" in done.report.failure.message


def test_a_record_that_was_changed_is_refused(tmp_path: Path, llama: Path) -> None:
    first = finished(tmp_path / "1", llama, PEOPLE, max_pairs=5)
    (first.run_folder / "learned-pairs.txt").write_text("")
    done = finished(tmp_path / "2", first.model, PEOPLE)
    assert done.code == ExitCode.DIGEST_MISMATCH
    assert done.report.failure is not None
    assert "learned-pairs.txt is not what its manifest says" in done.report.failure.message

"""What a refresh goes on from when the dataset's status was lost or put back from a backup."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from alignment_api.stage import ExitCode
from tests.worker import ingesting, stages, tiny
from tests.worker.stages import Finished

ROWS = tiny.pair_rows(6)


class Store:
    """Of one dataset, of which refreshes 1 and 2 have made revisions, of two rows and of three."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = self.refresh(1, day=1, rows=[0, 1])
        self.second = self.refresh(2, day=2, rows=[0, 1, 2], base=self.first)

    def refresh(self, number: int, day: int, rows: list[int], base: Finished | None = None) -> Finished:
        """Numbered and based as the status knows."""
        source = self.folder / "pairs.jsonl"
        tiny.write_rows(source, [ROWS[row] for row in rows])
        made = ingesting.config(self.folder, {"a": source}, number, base=base)
        output = f"file://{self.folder}/revisions/{number}-202611{day:02d}T030000Z"
        return stages.run(self.folder / "jobs", made.model_copy(update={"output": output}))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def ordinals(done: Finished) -> dict[str, int]:
    return {row["prompt"]: row["ordinal"] for row in done.rows("pairs.jsonl")}


def prompt(row: int) -> str:
    return str(ROWS[row]["prompt"])


def test_of_a_lost_status_the_newest_revision_of_the_store_is_gone_on_from(store: Store) -> None:
    done = store.refresh(1, day=3, rows=[3, 2, 1])
    assert ordinals(done) == {prompt(1): 2, prompt(2): 3, prompt(3): 4}
    assert (done.result.counts["sequence"], done.result.counts["pairsEver"]) == (4, 4)
    after = store.refresh(2, day=4, rows=[4, 0], base=done)
    assert ordinals(after) == {prompt(4): 5, prompt(0): 1}


def test_of_a_status_that_was_put_back_too_though_it_knows_an_old_one(store: Store) -> None:
    done = store.refresh(2, day=3, rows=[2, 3], base=store.first)
    assert ordinals(done) == {prompt(2): 3, prompt(3): 4}


def test_an_old_one_that_is_collected_meanwhile_is_not_needed(store: Store) -> None:
    shutil.rmtree(store.first.folder)
    assert ordinals(store.refresh(2, day=3, rows=[3], base=store.first)) == {prompt(3): 4}


def test_the_same_rows_are_the_same_revision_still(store: Store) -> None:
    done = store.refresh(1, day=3, rows=[0, 1, 2])
    assert done.result.manifest.digest == store.second.result.manifest.digest


def test_from_a_refresh_that_was_refused_nothing_goes_on(store: Store) -> None:
    done = store.refresh(3, day=3, rows=[3], base=store.first)
    assert ordinals(done) == {prompt(3): 3}


def test_what_never_ended_is_not_gone_on_from(store: Store) -> None:
    (store.second.folder / "manifest.json").unlink()
    assert ordinals(store.refresh(2, day=3, rows=[3], base=store.first)) == {prompt(3): 3}


def test_a_base_that_is_gone_while_the_store_knows_no_newer_one_is_missed(store: Store) -> None:
    shutil.rmtree(store.second.folder)
    done = store.refresh(3, day=3, rows=[3], base=store.second)
    assert done.code == ExitCode.INPUT_MISSING
    assert "inputs.base" in done.failure.message

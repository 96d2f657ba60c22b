"""Which checkpoint a training goes on from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from alignment_api.stage import TrainParameters
from alignment_worker import train_checkpoints
from alignment_worker.train_checkpoints import Checkpoints
from alignment_worker.workspace import Workspace
from tests.worker import training


def write(folder: Path) -> None:
    folder.mkdir()
    (folder / "weights").write_text("weights")


def kept(folder: Path, *steps: int) -> Checkpoints:
    checkpoints = Checkpoints(folder, "training")
    for step in steps:
        checkpoints.keep(step, write)
    return checkpoints


def test_the_last_two_are_kept_and_the_newest_is_used(tmp_path: Path) -> None:
    checkpoints = kept(tmp_path / "checkpoints", 5, 10, 100)
    assert checkpoints.newest() == tmp_path / "checkpoints" / "step-100"
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"step-10", "step-100"}


def test_there_may_be_none(tmp_path: Path) -> None:
    assert kept(tmp_path / "checkpoints").newest() is None


def test_one_that_was_cut_off_is_never_used_and_cleared_away(tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def cut_off(folder: Path) -> None:
        write(folder)
        raise KilledError

    checkpoints = kept(tmp_path, 5)
    with pytest.raises(KilledError):
        checkpoints.keep(10, cut_off)
    assert len(list(tmp_path.iterdir())) == 2
    assert checkpoints.newest() == tmp_path / "step-5"
    assert [path.name for path in tmp_path.iterdir()] == ["step-5"]


@pytest.mark.parametrize("damage", ["changed", "missing", "added", "no manifest", "torn manifest", "null"])
def test_a_damaged_one_is_passed_over(damage: str, tmp_path: Path) -> None:
    checkpoints = kept(tmp_path, 5, 10)
    newest = tmp_path / "step-10"
    match damage:
        case "changed":
            (newest / "weights").write_text("wrong")
        case "missing":
            (newest / "weights").unlink()
        case "added":
            (newest / "more").write_text("more")
        case "no manifest":
            (newest / "manifest.json").unlink()
        case "null":
            (newest / "manifest.json").write_text("null")
        case _:
            (newest / "manifest.json").write_text('{"identity": "trai')
    assert checkpoints.newest() == tmp_path / "step-5"
    checkpoints.keep(10, write)
    assert checkpoints.newest() == newest


def test_another_trainings_are_not_used(tmp_path: Path) -> None:
    kept(tmp_path, 5)
    assert Checkpoints(tmp_path, "another").newest() is None


def test_another_pods_of_the_same_training_is_left_as_it_is(tmp_path: Path) -> None:
    kept(tmp_path, 5)
    standing = (tmp_path / "step-5" / "weights").stat().st_ino
    checkpoints = kept(tmp_path, 5)
    assert (tmp_path / "step-5" / "weights").stat().st_ino == standing
    assert [path.name for path in tmp_path.iterdir()] == ["step-5"]
    assert checkpoints.newest() == tmp_path / "step-5"


def test_another_trainings_make_room_for_its_own(tmp_path: Path) -> None:
    """They may be of later steps."""
    kept(tmp_path, 100, 150)
    own = Checkpoints(tmp_path, "another")
    own.keep(50, write)
    assert own.newest() == tmp_path / "step-50"
    own.keep(75, write)
    own.keep(90, write)
    assert {path.name for path in tmp_path.iterdir()} == {"step-75", "step-90"}
    assert own.newest(last=80) == tmp_path / "step-75"
    assert own.newest(last=75) == tmp_path / "step-75"
    assert own.newest(last=74) is None


def test_a_training_in_another_number_of_processes_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without processesPerNode it is what the machine has."""
    made = training.config(tmp_path, {}, TrainParameters(training=training.training()))
    workspace = cast("Workspace", SimpleNamespace(config=made, inputs=SimpleNamespace(digests={})))
    alone = train_checkpoints.identity(workspace)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "gang")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train_checkpoints.identity(workspace) != alone

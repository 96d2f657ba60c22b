"""A stage's folder becomes finished exactly once."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from alignment_api import digests
from alignment_api.measurements import Measurement
from alignment_worker import store
from alignment_worker.failures import (
    InvalidConfigError,
    StoreConflictError,
    StoreError,
    TooManyCategoriesError,
)
from alignment_worker.store import Outcome, Places, SealedFolder, StageFolder
from tests.worker import tiny
from tests.worker.loop import Loop


@pytest.fixture
def loop(tmp_path: Path) -> Loop:
    return Loop(tmp_path, tmp_path, tmp_path, tmp_path)


def folder_of(loop: Loop, config_hash: str = "a" * 64) -> StageFolder:
    return StageFolder(loop.folder / "out", loop.ingest(tiny.pair_rows(2)), config_hash)


def seal(folder: StageFolder, text: str, model: bool = False) -> str:
    run = folder.new_run()
    (run / "model").mkdir()
    (run / "model" / "weights").write_text(text)
    (run / "model" / ".cache").write_text("hidden")
    outcome = Outcome({"read": 1}, model=run / "model" if model else None)
    return folder.seal(run, outcome, {}).manifest.digest


def test_a_manifest_names_every_file_and_is_reported_again(loop: Loop) -> None:
    folder = folder_of(loop)
    assert folder.finished() is None
    digest = seal(folder, "x")
    again = folder.finished()
    assert again is not None
    assert again.manifest.digest == digest == digests.of_file(folder.path / "manifest.json")
    manifest = json.loads((folder.path / "manifest.json").read_bytes())
    contents = {"model/weights": b"x", "model/.cache": b"hidden"}
    assert manifest["files"] == {
        f"{manifest['run']}/{name}": digests.of_bytes(data) for name, data in contents.items()
    }
    assert SealedFolder.open(folder.path).file("model/weights").read_text() == "x"


def test_a_model_is_located_by_uri_and_digest_of_its_folder(loop: Loop) -> None:
    folder = folder_of(loop)
    seal(folder, "x", model=True)
    result = folder.finished()
    assert result is not None
    assert result.model is not None
    (model,) = folder.path.glob("run-*/model")
    assert result.model.digest == digests.of_folder(model)
    assert result.model.uri == f"{result.manifest.uri}/{model.parent.name}/model"


def test_the_second_run_reports_the_first(loop: Loop) -> None:
    folder = folder_of(loop)
    first = seal(folder, "x")
    assert seal(folder, "something else") == first
    assert len(list(folder.path.glob("run-*"))) == 1


def test_a_run_is_named_after_its_content(loop: Loop, tmp_path: Path) -> None:
    other = Loop(tmp_path / "other", tmp_path, tmp_path, tmp_path)
    different = Loop(tmp_path / "different", tmp_path, tmp_path, tmp_path)
    first = seal(folder_of(loop), "x")
    assert first != seal(folder_of(different), "y")
    assert json.loads((loop.folder / "out" / "manifest.json").read_bytes())["files"] == same_files(other)


def same_files(loop: Loop) -> object:
    seal(folder_of(loop), "x")
    return json.loads((loop.folder / "out" / "manifest.json").read_bytes())["files"]


def test_a_folder_that_is_not_what_its_name_says_is_a_conflict(loop: Loop) -> None:
    """What is there of a run that was killed before its manifest."""
    folder = folder_of(loop)
    digest = seal(folder, "x")
    (folder.path / "manifest.json").unlink()
    assert seal(folder, "x") == digest
    (folder.path / "manifest.json").unlink()
    (weights,) = folder.path.glob("run-*/model/weights")
    weights.write_text("damaged")
    with pytest.raises(
        StoreConflictError, match=f"{weights.parents[1]} is not what its name says; delete it"
    ):
        seal(folder, "x")
    assert folder.finished() is None


def test_a_result_that_no_report_holds_is_not_sealed(loop: Loop) -> None:
    folder = folder_of(loop)
    many = Outcome(
        {"read": 1},
        by_category={
            digests.of_bytes(bytes([category]))[-63:]: {
                f"figure {number}": Measurement(estimate=category * 1.1**number, low=-category / number, n=9)
                for number in range(1, 17)
            }
            for category in range(1, 33)
        },
    )
    with pytest.raises(TooManyCategoriesError, match="do not fit a report"):
        folder.seal(folder.new_run(), many, {})
    assert folder.finished() is None


def test_what_killed_runs_left_goes_when_one_has_won(loop: Loop) -> None:
    folder = folder_of(loop)
    left = folder.new_run()
    (left / "half").write_text("ha")
    (folder.path / "checkpoints" / "step-1").mkdir(parents=True)
    (folder.path / ".manifest.json.abcd").write_text("{")
    seal(folder, "x")
    manifest = json.loads((folder.path / "manifest.json").read_bytes())
    assert sorted(path.name for path in folder.path.iterdir()) == ["manifest.json", manifest["run"]]


def test_a_manifest_of_another_config_is_a_conflict(loop: Loop) -> None:
    seal(folder_of(loop), "x")
    with pytest.raises(StoreConflictError, match="belongs to another run of the stage ingest"):
        folder_of(loop, "b" * 64).finished()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"contractVersion": 1}', b"\xff"])
def test_what_is_no_manifest_is_a_conflict(loop: Loop, data: bytes) -> None:
    folder = folder_of(loop)
    folder.path.mkdir()
    (folder.path / "manifest.json").write_bytes(data)
    with pytest.raises(
        StoreConflictError, match="is not a manifest of contract version 1; delete the folder"
    ):
        folder.finished()


def test_a_file_is_created_by_one_of_many(tmp_path: Path) -> None:
    file = tmp_path / "once"
    with multiprocessing.get_context("fork").Pool(8) as pool:
        won = pool.starmap(store.create_exclusively, [(file, str(n).encode() * 1000) for n in range(64)])
    assert won.count(True) == 1
    assert file.read_bytes() == str(won.index(True)).encode() * 1000
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_system_without_hard_links_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match="Use a volume that can, such as"):
        store.create_exclusively(tmp_path / "x", b"x")
    assert not list(tmp_path.iterdir())


def test_uris_are_folders_by_claim() -> None:
    places = Places({"models": Path("/m")})
    assert places.path("pvc://models/a/b") == Path("/m/a/b")
    assert places.path("pvc://other/a") == Path("/alignment/claims/other/a")
    assert places.path("file:///x/y") == Path("/x/y")
    for wrong in ("pvc://models/../etc", "s3://bucket/x", "/plain"):
        with pytest.raises(InvalidConfigError):
            places.path(wrong)

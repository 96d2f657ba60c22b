"""The stage `collect` on a store of folders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from alignment_api.stage import CollectParameters, KeptIterations
from tests.worker import stages
from tests.worker.stages import Finished

STAGES = ("sample", "train")


def cycle_folder(folder: Path, iterations: Iterable[int], sealed: Iterable[int] = ()) -> Path:
    for number in iterations:
        for stage in STAGES:
            made = folder / "iterations" / str(number) / stage
            made.mkdir(parents=True)
            (made / "manifest.json").write_text("{}")
    (folder / "ledger").mkdir(parents=True)
    for number in sealed:
        (folder / "ledger" / f"{number:06d}.json").write_text("{}")
    return folder


def collect(folder: Path, last: int, kept: list[int], keep_promoted: int = 5) -> Finished:
    parameters = CollectParameters(
        iterations=KeptIterations(cycle_prefix=f"file://{folder}", kept=kept, keep_promoted=keep_promoted)
    )
    output = folder / "iterations" / str(last) / "collect"
    return stages.run(folder.parent / "job", stages.config(output, {}, parameters, iteration=last))


def stored(folder: Path) -> list[int]:
    return sorted(int(path.parent.name) for path in folder.glob("iterations/*/train"))


def test_what_is_not_kept_goes_and_what_came_later_stays(tmp_path: Path) -> None:
    folder = cycle_folder(tmp_path / "cycle", range(1, 7))
    done = collect(folder, 5, [2, 5])
    assert stored(folder) == [2, 5, 6]
    assert done.result.counts == {"folders": 5, "deleted": 3, "kept": 2}
    manifest = json.loads((done.folder / "manifest.json").read_bytes())
    said = json.loads((done.folder / manifest["run"] / "collected.json").read_bytes())
    assert said == {"deleted": [1, 3, 4], "kept": [2, 5]}


def test_its_own_iteration_goes_too_but_for_the_record(tmp_path: Path) -> None:
    folder = cycle_folder(tmp_path / "cycle", [1, 2])
    assert collect(folder, 2, [1]).code == 0
    assert stored(folder) == [1]
    assert [path.name for path in (folder / "iterations" / "2").iterdir()] == ["collect"]
    collect(folder, 3, [1])
    assert not (folder / "iterations" / "2").exists()


def test_the_newest_sealed_ones_stay_whatever_the_operator_believes(tmp_path: Path) -> None:
    folder = cycle_folder(tmp_path / "cycle", range(1, 6), sealed=[1, 3, 4])
    collect(folder, 5, [5], keep_promoted=2)
    assert stored(folder) == [3, 4, 5]


def test_a_second_attempt_reports_what_the_first_one_did(tmp_path: Path) -> None:
    folder = cycle_folder(tmp_path / "cycle", [1, 2, 3])
    first = collect(folder, 3, [3])
    assert collect(folder, 3, [3]).result == first.result


def test_what_a_killed_attempt_left_half_deleted_is_swept(tmp_path: Path) -> None:
    folder = cycle_folder(tmp_path / "cycle", [1, 2, 3])
    (folder / "iterations" / "1").rename(folder / "iterations" / ".collected-1-0123abcd")
    collect(folder, 3, [3])
    assert sorted(path.name for path in (folder / "iterations").iterdir()) == ["3"]


def test_what_is_no_iteration_is_left_alone(tmp_path: Path) -> None:
    folder = cycle_folder(tmp_path / "cycle", [1, 2])
    (folder / "iterations" / "notes").mkdir()
    (folder / "iterations" / "7.txt").write_text("mine")
    collect(folder, 2, [2])
    assert {"notes", "7.txt"} <= {path.name for path in (folder / "iterations").iterdir()}

"""The stage `collect` on a dataset's folder of refreshes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignment_api.stage import CollectParameters, ExitCode, KeptRevisions
from tests.worker import stages
from tests.worker.stages import Finished


def name(number: int, day: int | None = None) -> str:
    """Of the refresh's folder; it began on that day, by default the one of its number."""
    return f"{number}-202611{day or number:02d}T030000Z"


def dataset(folder: Path, *contents: str, first: int = 1) -> Path:
    """With a refresh for each content: equal ones found the same, an empty one failed."""
    for number, content in enumerate(contents, first):
        run = folder / "revisions" / name(number) / "run-0123abcd"
        (run / "derived").mkdir(parents=True)
        (run / "pairs.jsonl").write_text(content)
        if content:
            (run.parent / "manifest.json").write_text(content)
    return folder


def collect(folder: Path, last: str, *kept: str, newest: int = 1) -> Finished:
    wanted = KeptRevisions(dataset_prefix=f"file://{folder}", kept=list(kept), newest=newest)
    parameters = CollectParameters(revisions=wanted)
    output = folder / "collected" / last
    return stages.run(
        folder.parent / "job", stages.config(output, {}, parameters, iteration=int(last.partition("-")[0]))
    )


def stored(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("revisions/*"))


def test_what_is_not_kept_goes_with_all_that_lies_in_it_and_what_came_later_stays(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "a", "b", "c", "d", "e")
    done = collect(folder, name(4), name(1), name(4))
    assert stored(folder) == [name(1), name(4), name(5)]
    assert done.result.counts == {"folders": 4, "deleted": 2, "kept": 2}
    manifest = json.loads((done.folder / "manifest.json").read_bytes())
    said = json.loads((done.folder / manifest["run"] / "collected.json").read_bytes())
    assert said == {"deleted": [name(2), name(3)], "kept": [name(1), name(4)]}


def test_of_refreshes_that_found_the_same_or_failed_none_stays_but_the_revision(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "a", "b", "b", "", "b")
    collect(folder, name(5), name(2), name(1), newest=5)
    assert stored(folder) == [name(1), name(2)]


@pytest.mark.parametrize(("newest", "stay"), [(1, [5]), (3, [2, 4, 5])])
def test_the_newest_revisions_stay_whatever_a_status_knows(
    tmp_path: Path, newest: int, stay: list[int]
) -> None:
    folder = dataset(tmp_path / "set", "a", "b", "b", "c", "d")
    collect(folder, name(5), name(5), newest=newest)
    assert stored(folder) == [name(number) for number in stay]


def test_a_refresh_that_began_before_by_a_clock_that_was_put_back_is_not_looked_at(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "a", "b")
    (folder / "revisions" / name(3, day=1)).mkdir()
    (folder / "revisions" / name(1, day=9)).mkdir()
    collect(folder, name(2), name(2))
    assert stored(folder) == [name(1, day=9), name(2), name(3, day=1)]


def test_a_second_attempt_reports_what_the_first_one_did(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "a", "b")
    first = collect(folder, name(2), name(2))
    assert collect(folder, name(2), name(2)).result == first.result


def test_killed_before_any_deletion_it_leaves_none_half_done_and_the_next_attempt_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = dataset(tmp_path / "set", "a", "b", "c")
    with monkeypatch.context() as patched:
        patched.setattr("alignment_worker.trash.shutil.rmtree", _killed)
        assert collect(folder, name(3), name(3)).code == 1
    whole = [path for path in folder.glob("revisions/[0-9]*") if (path / "run-0123abcd/pairs.jsonl").exists()]
    assert sorted(path.name for path in whole) == [name(2), name(3)]
    assert collect(folder, name(3), name(3)).code == 0
    assert stored(folder) == [name(3)]


def _killed(*_: object, **__: object) -> None:
    raise RuntimeError("killed")


def test_only_the_last_collection_leaves_a_record(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "a", "b", "c")
    collect(folder, name(2), name(2))
    collect(folder, name(3), name(3))
    assert [path.name for path in (folder / "collected").iterdir()] == [name(3)]


def test_what_is_no_refresh_is_left_alone(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", "a", "b")
    (folder / "revisions" / "notes").mkdir()
    (folder / "revisions" / "1").mkdir()
    (folder / "revisions" / "1-20261101T030000Z.txt").write_text("mine")
    collect(folder, name(2), name(2))
    assert stored(folder) == sorted(["1", "1-20261101T030000Z.txt", name(2), "notes"])


def test_one_that_is_told_of_neither_kind_says_so(tmp_path: Path) -> None:
    made = stages.config(tmp_path / "out", {}, CollectParameters())
    done = stages.run(tmp_path / "job", made)
    assert done.code == ExitCode.INVALID_CONFIG
    assert "name one of iterations, revisions" in done.failure.message


def test_refreshes_that_all_failed_before_they_made_a_folder_leave_nothing_to_delete(tmp_path: Path) -> None:
    done = collect(tmp_path / "set", name(6))
    assert done.result.counts == {"folders": 0, "deleted": 0, "kept": 0}

"""`alignctl dataset diff` of a state folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignment_worker.ingestion.rejected import Why
from tests.report import refreshed
from tests.report.folder import alignctl
from tests.worker import tiny

FIRST, *_, LAST = tiny.pair_rows(4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder where a dataset was refreshed twice."""
    spec = {"store": {"uri": "pvc://m/d"}, "sources": [{"name": "a", "files": {"uri": "pvc://m/a.jsonl"}}]}
    prefix = f"file://{tmp_path}/revisions"
    refreshed.put(tmp_path, refreshed.NAME, spec, refreshed.status(refreshed.revisions(tmp_path), prefix))
    return tmp_path


def words(row: dict[str, str]) -> list[str]:
    return " ".join(row.values()).split()


def test_it_says_which_rows_came_and_which_went(folder: Path) -> None:
    done = alignctl(folder, "dataset", "diff", "1", "2")
    assert done.returncode == 0, done.stderr
    lines = refreshed.told(done.stdout)
    assert ["FEEDBACK", "REVISION", "1", "REVISION", "2"] in lines
    assert ["rows", "read", "3", "4"] in lines
    assert ["highest", "ordinal", "3", "5"] in lines
    assert sum(line[:2] == ["left", "out:"] for line in lines) == len(Why), "each reason has its line"
    assert ["a", "3", "3", "+1", "−1"] in lines
    assert ["b", "0", "1", "+1", "−0"] in lines
    assert ["4", "a:", "a.jsonl:3", *words(LAST)] in lines
    assert ["5", "b:", "b.jsonl:1", "t", "said", "(label", "true)"] in lines
    assert lines[-1] == ["1", "a:", "a.jsonl:1", *words(FIRST)]
    backwards = alignctl(folder, "dataset", "diff", refreshed.NAME, "2", "1", "--examples", "0")
    assert ["a", "3", "3", "+1", "−1"] in refreshed.told(backwards.stdout)
    assert "p3" not in backwards.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("1", "3"), 1, "revision 3 of feedback is not known; known are 2, 1"),
        (("1", "1"), 2, "1 and 1 are one revision; name two"),
        (("1",), 2, "write NAME A B, as in human-feedback 11 12"),
        (("other", "1", "2"), 1, "no PreferenceDataset other in folder .alignment; there: feedback"),
    ],
)
def test_what_cannot_be_compared_is_told_in_a_line(
    folder: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = alignctl(folder, "dataset", "diff", *words)
    assert done.returncode == code
    assert said in done.stderr.splitlines()[-1]


def test_a_revision_that_was_let_go_is_told_with_those_that_are_kept(folder: Path) -> None:
    file = folder / ".alignment/objects/preferencedatasets/team" / f"{refreshed.NAME}.json"
    manifest = json.loads(file.read_text())
    manifest["status"]["revisions"] = []
    file.write_text(json.dumps(manifest))
    done = alignctl(folder, "dataset", "diff", "1", "2")
    assert done.returncode == 1
    said = "revision 1 of feedback is not kept any more (spec.retention.revisions); kept are 2"
    assert said in done.stderr.splitlines()[-1]


def test_with_several_datasets_it_must_be_said_which(folder: Path) -> None:
    refreshed.put(folder, "another", {}, {})
    done = alignctl(folder, "dataset", "diff", "1", "2")
    assert done.returncode == 2
    assert "say which PreferenceDataset, by its name before the rest; there: another, feedback" in done.stderr


def test_a_revision_that_is_not_what_it_was_is_not_compared(folder: Path) -> None:
    (pairs,) = (folder / "revisions" / "1").glob("run-*/pairs.jsonl")
    pairs.write_bytes(pairs.read_bytes().replace(b"p0", b"p9"))
    done = alignctl(folder, "dataset", "diff", "1", "2")
    assert done.returncode == 1
    assert "pairs.jsonl is not what its manifest says" in done.stderr.splitlines()[-1]

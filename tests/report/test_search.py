"""`alignctl search` of a state folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report import refreshed
from tests.report.folder import alignctl
from tests.worker import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a dataset was refreshed twice, with vectors."""
    folder = tmp_path_factory.mktemp("search")
    model = tiny.llama(folder / "embedding")
    revisions = refreshed.revisions(folder, model)
    spec = a_spec({"embedding": {"model": f"file://{model}"}})
    refreshed.put(folder, refreshed.NAME, spec, refreshed.status(revisions, f"file://{folder}/revisions"))
    return folder


def a_spec(curation: dict[str, Any]) -> dict[str, Any]:
    source = {"name": "a", "files": {"uri": "pvc://m/a.jsonl"}}
    return {"store": {"uri": "pvc://m/d"}, "sources": [source], "curation": curation}


def test_rows_are_shown_by_how_much_their_prompts_are_alike(folder: Path) -> None:
    done = alignctl(folder, "search", "p3")
    assert done.returncode == 0, done.stderr
    head, first, *others = refreshed.told(done.stdout)
    assert head == ["ALIKE", "ROW", "FROM", "PROMPT", "CHOSEN", "REJECTED"]
    assert first == ["100.0", "%", "4", "a:", "a.jsonl:3", *" ".join(tiny.pair_rows(4)[3].values()).split()]
    assert {row[2] for row in others} == {"2", "3", "5"}, "row 1 is not in the last revision"
    shares = [float(row[0]) for row in others]
    assert shares == sorted(shares, reverse=True)


def test_what_cannot_be_searched_is_told_in_a_line(folder: Path, tmp_path: Path) -> None:
    file = folder / ".alignment" / "objects" / "preferencedatasets" / "team" / f"{refreshed.NAME}.json"
    refreshed.put(tmp_path, refreshed.NAME, a_spec({}), json.loads(file.read_text())["status"])
    done = alignctl(tmp_path, "search", "p3")
    assert done.returncode == 1
    said = "feedback has no vectors: name a model in spec.curation.embedding.model, and refresh it"
    assert said in done.stderr.splitlines()[-1]
    assert alignctl(tmp_path, "search", "a", "b", "c").returncode == 2

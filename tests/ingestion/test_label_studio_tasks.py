"""The tasks of a project from one refresh to the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alignment_worker.ingestion.label_studio import Interface, judgements
from alignment_worker.ingestion.label_studio_server import LabelStudio
from alignment_worker.ingestion.label_studio_tasks import Tasks
from alignment_worker.progress import Progress


class Project(LabelStudio):
    """One whose clock goes on with each look at it."""

    def __init__(self) -> None:
        self.there: dict[int, dict[str, Any]] = {}
        self.looks = 0

    def put(self, number: int, *annotations: int) -> None:
        found = [{"id": each, "result": [], "updated_at": "then"} for each in annotations]
        self.there[number] = {"id": number, "data": {"prompt": f"p{number}"}, "annotations": found}

    def tasks(self, since: str | None = None) -> Iterator[dict[str, Any]]:
        return iter([self.there[number] for number in sorted(self.there)])

    def count(self) -> int:
        return len(self.there)

    def now(self) -> str:
        self.looks += 1
        return f"2026-11-23T09:00:{self.looks:02}.000000Z"


def refreshed(project: Project, folder: Path, before: Path | None) -> Path:
    folder.mkdir()
    with Tasks(folder / "tasks.sqlite", "http://here", 3) as tasks:
        tasks.read(project, before, Progress())
        tasks.write(folder / "tasks.jsonl")
    return folder / "tasks.jsonl"


def test_what_did_not_change_is_written_the_same_and_what_did_with_its_instant(tmp_path: Path) -> None:
    project = Project()
    project.put(1)
    project.put(2, 5)
    first = refreshed(project, tmp_path / "1", None)
    again = refreshed(project, tmp_path / "2", first)
    assert again.read_bytes() == first.read_bytes()
    project.put(1, 6)
    changed = refreshed(project, tmp_path / "3", again)
    assert '"since": "2026-11-23T09:00:03' in changed.read_text().splitlines()[0]
    del project.there[2]
    assert len(refreshed(project, tmp_path / "4", changed).read_text().splitlines()) == 2


def test_an_annotation_of_another_shape_says_nothing() -> None:
    shown = Interface("prompt", ("answer_a", "answer_b"), "preferred")
    region = {"from_name": "preferred", "type": "pairwise"}
    results = [["x"], [{**region, "value": "left"}], [{**region, "value": {"selected": ["left"]}}]]
    annotations = [{"id": number, "result": result} for number, result in enumerate(results)]
    assert list(judgements({"data": {}, "annotations": annotations}, shown)) == []

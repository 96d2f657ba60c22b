"""The tasks of a Label Studio project as they are now: those that a revision knew, and what changed since."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from alignment_worker.ingestion.label_studio import KEY
from alignment_worker.ingestion.label_studio_server import LabelStudio, Task
from alignment_worker.progress import Progress

_KEPT = ("id", "data", "annotations")
_ANNOTATION = ("id", "result", "was_cancelled", "updated_at", "completed_by")


class Tasks:
    """Kept in a database on disk while they are read. Iterated by id. Closed with `with`."""

    def __init__(self, file: Path, url: str, project: int) -> None:
        self._of = {"url": url, "project": project}
        self._since: str | None = None
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;"
            "CREATE TABLE task (id INTEGER PRIMARY KEY, key TEXT, said TEXT); BEGIN;"
        )

    def __enter__(self) -> Tasks:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def read(self, studio: LabelStudio, before: Path | None, progress: Progress) -> None:
        """`before`: what `write` made of this project. If tasks were deleted since, all are read anew.

        Where nothing is new, `write` makes the same again: a revision has the digest of what is in it. Raises
        WorkerError.
        """
        since = self._remember(before)
        self._since = studio.now()
        changed = self._add(studio.tasks(since), progress)
        if since is not None and self._count() > studio.count():
            self._database.execute("DELETE FROM task")
            self._add(studio.tasks(), progress)
        elif since is not None and not changed:
            self._since = since

    def __iter__(self) -> Iterator[Task]:
        for (said,) in self._database.execute("SELECT said FROM task ORDER BY id"):
            yield json.loads(said)

    def without(self, new: Iterable[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
        """Of these tasks' data the first ones that the project has not."""
        missing: dict[str, Mapping[str, Any]] = {}
        for item in new:
            if len(missing) == most:
                break
            if not self._database.execute("SELECT 1 FROM task WHERE key = ?", (item[KEY],)).fetchone():
                missing.setdefault(item[KEY], item)
        return list(missing.values())

    def write(self, file: Path) -> None:
        """JSON Lines: whose tasks, and up to when they were read; then the tasks by id."""
        with file.open("w", encoding="utf-8") as written:
            written.write(json.dumps({**self._of, "since": self._since}) + "\n")
            for (said,) in self._database.execute("SELECT said FROM task ORDER BY id"):
                written.write(said + "\n")

    def _remember(self, before: Path | None) -> str | None:
        """Up to when the tasks that were known are known."""
        if before is None:
            return None
        with before.open(encoding="utf-8") as lines:
            head = json.loads(next(lines))
            since = head.pop("since")
            if head != self._of:
                return None
            for line in lines:
                self._put(json.loads(line))
        return str(since)

    def _add(self, tasks: Iterable[Task], progress: Progress) -> int:
        """How many are not known as they are."""
        changed = 0
        for task in tasks:
            kept = {name: task.get(name) for name in _KEPT}
            kept["annotations"] = [
                {name: annotation.get(name) for name in _ANNOTATION}
                for annotation in task.get("annotations") or ()
            ]
            changed += self._put(kept)
            progress.advance()
        return changed

    def _put(self, task: Task) -> bool:
        """False if it is known as it is."""
        key = (task.get("data") or {}).get(KEY)
        row = (int(task["id"]), key if isinstance(key, str) else None, json.dumps(task))
        known = self._database.execute("SELECT said FROM task WHERE id = ?", row[:1]).fetchone()
        if known == row[2:]:
            return False
        self._database.execute("INSERT OR REPLACE INTO task VALUES (?, ?, ?)", row)
        return True

    def _count(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM task").fetchone()[0])

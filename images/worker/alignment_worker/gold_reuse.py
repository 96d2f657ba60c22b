"""Greedy gold answers of a checkpoint, once given, are not given again by a later iteration.

Each stage `evaluate` leaves gold-keys.json beside gold.jsonl: by checkpoint, the key of all that its answers depend on.
A later one looks through the cycle's earlier iterations for its own keys. Texts alone are taken, and graded anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

from alignment_api import digests
from alignment_api.cycle import GoldSet
from alignment_worker import precision, rows
from alignment_worker.artifacts import GOLD_ANSWERS, GOLD_KEYS
from alignment_worker.failures import WorkerError
from alignment_worker.store import SealedFolder
from alignment_worker.workspace import Workspace


def key(model: str, gold_file: str, gold_set: GoldSet) -> str:
    """Of a model and a gold set, by digest; empty where answers are drawn, which are drawn anew each time.

    The model's folder has its template, too. Another release, or another kind of device, may answer otherwise.
    """
    if gold_set.temperature > 0:
        return ""
    where = precision.device()
    computed_by = [metadata.version("alignment-operator"), where.type, str(precision.dtype_of("Auto", where))]
    return digests.of_json([model, gold_file, gold_set.max_new_tokens, computed_by])


def store(keys: Mapping[str, str], folder: Path) -> None:
    """`keys` by checkpoint. Raises OSError."""
    (folder / GOLD_KEYS).write_text(json.dumps({name: found for name, found in keys.items() if found}))


def known(workspace: Workspace, wanted: str) -> list[list[str]] | None:
    """The answers of that key, items × samples, by the newest earlier iteration that has them; None if none has."""
    if not wanted:
        return None
    return next((found for folder in _earlier(workspace) if (found := _answers(folder, wanted))), None)


def _earlier(workspace: Workspace) -> Iterator[Path]:
    """Of the stages `evaluate` before, the newest first; retention may have let any of them go."""
    iterations = workspace.places.path(workspace.config.output).parent.parent
    numbers = (int(folder.name) for folder in iterations.glob("*") if folder.name.isdigit())
    before = sorted((number for number in numbers if number < workspace.config.iteration), reverse=True)
    return (iterations / str(number) / workspace.config.stage.value for number in before)


def _answers(folder: Path, wanted: str) -> list[list[str]] | None:
    """What cannot be read, or is not what its manifest says, is as if it were not there."""
    try:
        sealed = SealedFolder.open(folder)
        keys: dict[str, str] = json.loads(sealed.verified(GOLD_KEYS).read_bytes())
        name = next(name for name, found in keys.items() if found == wanted)
        return [row[name]["texts"] for row in rows.load(sealed.verified(GOLD_ANSWERS))]
    except (StopIteration, WorkerError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None

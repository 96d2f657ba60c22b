"""Deletes the artifacts of iterations that retention lets go.

Whatever the operator asks for, the newest promotions that the ledger knows stay: a status put back from a backup must
not cost a checkpoint in service.
"""

from __future__ import annotations

from pathlib import Path

from alignment_api import names
from alignment_api.stage import KeptIterations, Stage
from alignment_worker.trash import delete, sweep
from alignment_worker.workspace import Workspace


def collect(workspace: Workspace, wanted: KeptIterations) -> tuple[list[int], list[int]]:
    """Those deleted and those kept. Raises InvalidConfigError, OSError."""
    folder = workspace.places.path(names.iterations_prefix(wanted.cycle_prefix))
    ledger = workspace.places.path(names.ledger_prefix(wanted.cycle_prefix))
    own = workspace.config.iteration
    sweep(folder)
    sweep(folder, "*/")
    there = iterations(folder, own)
    kept = {own, *wanted.kept, *sealed(ledger)[: wanted.keep_promoted]}
    gone = [number for number in there if number not in kept]
    workspace.progress.begin(len(gone), "iterations", "deleting artifacts")
    for number in gone:
        delete(folder / str(number))
        workspace.progress.advance()
    if own not in wanted.kept:
        for stage in folder.joinpath(str(own)).iterdir():
            if stage.name != Stage.COLLECT:
                delete(stage)
    return gone, [number for number in there if number in kept]


def iterations(folder: Path, last: int) -> list[int]:
    """Numbers of the iterations that have a folder, up to `last`: what came later is none of this stage's business."""
    numbers = [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal() and entry.is_dir()]
    return sorted(number for number in numbers if number <= last)


def sealed(ledger: Path) -> list[int]:
    """Iterations whose evidence was sealed, the newest first."""
    numbers = [int(file.stem) for file in ledger.glob("*.json") if file.stem.isdecimal()]
    return sorted(numbers, reverse=True)

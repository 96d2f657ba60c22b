"""The stage `collect`: deletes the artifacts of iterations that retention lets go.

Makes collected.json: the numbers of the iterations that were `deleted` and `kept`. Whatever the operator asks for, the
newest promotions that the ledger knows stay: a status put back from a backup must not cost a checkpoint in service.
"""

from __future__ import annotations

import json
import secrets
import shutil
from pathlib import Path

from alignment_api import names
from alignment_api.stage import CollectParameters, Stage
from alignment_worker.store import Outcome
from alignment_worker.workspace import Workspace

FILE = "collected.json"
_TRASH = ".collected-"


def run(workspace: Workspace) -> Outcome:
    """Raises InvalidConfigError, OSError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, CollectParameters)
    folder = workspace.places.path(names.iterations_prefix(parameters.cycle_prefix))
    ledger = workspace.places.path(names.ledger_prefix(parameters.cycle_prefix))
    own = workspace.config.iteration
    sweep(folder)
    there = iterations(folder, own)
    kept = {own, *parameters.kept, *sealed(ledger)[: parameters.keep_promoted]}
    gone = [number for number in there if number not in kept]
    workspace.progress.begin(len(gone), "iterations", "deleting artifacts")
    for number in gone:
        delete(folder / str(number))
        workspace.progress.advance()
    if own not in parameters.kept:
        for stage in folder.joinpath(str(own)).iterdir():
            if stage.name != Stage.COLLECT:
                delete(stage)
    stay = [number for number in there if number in kept]
    (workspace.run_folder / FILE).write_text(json.dumps({"deleted": gone, "kept": stay}))
    return Outcome(counts={"iterations": len(there), "deleted": len(gone), "kept": len(stay)})


def iterations(folder: Path, last: int) -> list[int]:
    """Numbers of the iterations that have a folder, up to `last`: what came later is none of this stage's business."""
    numbers = [int(entry.name) for entry in folder.iterdir() if entry.name.isdecimal() and entry.is_dir()]
    return sorted(number for number in numbers if number <= last)


def sealed(ledger: Path) -> list[int]:
    """Iterations whose evidence was sealed, the newest first."""
    numbers = [int(file.stem) for file in ledger.glob("*.json") if file.stem.isdecimal()]
    return sorted(numbers, reverse=True)


def delete(folder: Path) -> None:
    """Renamed first: killed half-way, it leaves no folder that looks whole. Raises OSError."""
    if folder.is_file():  # a report
        folder.unlink()
        return
    trash = folder.with_name(f"{_TRASH}{folder.name}-{secrets.token_hex(4)}")
    folder.rename(trash)
    shutil.rmtree(trash)


def sweep(folder: Path) -> None:
    """What an attempt that was killed had renamed and not yet deleted."""
    for trash in [*folder.glob(f"{_TRASH}*"), *folder.glob(f"*/{_TRASH}*")]:
        shutil.rmtree(trash, ignore_errors=True)

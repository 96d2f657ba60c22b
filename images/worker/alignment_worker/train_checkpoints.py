"""Resumable checkpoints of a training run, in `checkpoints/step-N/` of the stage's folder.

A checkpoint is written under a temporary name, its `manifest.json` last, and then renamed; what is torn, of another
run or damaged is never loaded. The last two are kept.
"""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alignment_api import digests
from alignment_api.stage import RewardParameters, TrainParameters
from alignment_worker import gang, train_config
from alignment_worker.train_columns import Rows
from alignment_worker.workspace import Workspace

_MANIFEST = "manifest.json"
_KEPT = 2
_TEMPORARY = ".writing-"

_log = logging.getLogger(__name__)


def of(workspace: Workspace, rows: Rows) -> Checkpoints:
    """Those of a stage that trains on these rows, and in the same way."""
    return Checkpoints(
        workspace.stage_folder / "checkpoints", digests.of_json([*identity(workspace), rows.columns])
    )


def identity(workspace: Workspace) -> list[Any]:
    """Config, inputs, and what the config may leave to the machine: the number of processes, and the precision."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, TrainParameters | RewardParameters)
    computed_in = str(train_config.computed_in(parameters.training))
    return [workspace.config.to_wire(), dict(workspace.inputs.digests), gang.size(), computed_in]


def step_of(checkpoint: Path) -> int:
    """After so many steps it was written."""
    return int(checkpoint.name.removeprefix("step-"))


class Checkpoints:
    """`identity` tells this training from any other: its config, its inputs and its pairs."""

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder = folder
        self._identity = identity

    def newest(self, last: int | None = None) -> Path | None:
        """The last complete checkpoint of this very training, of step `last` at most.

        What killed runs left half written is removed.
        """
        for leftover in self._folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        early = (path for path in reversed(self._by_step()) if last is None or step_of(path) <= last)
        return next((path for path in early if self._is_whole(path)), None)

    def keep(self, step: int, write: Callable[[Path], None]) -> None:
        """Let `write` fill a folder, seal it, and let older ones go. Raises OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f"{_TEMPORARY}{secrets.token_hex(4)}"
        write(temporary)
        manifest = {"identity": self._identity, "step": step, "files": _files(temporary)}
        (temporary / _MANIFEST).write_text(json.dumps(manifest))
        self._settle(temporary, self._folder / f"step-{step}")
        own = [path for path in self._by_step() if self._manifest(path)]
        for old in {*self._by_step()} - {*own[-_KEPT:]}:
            shutil.rmtree(old, ignore_errors=True)

    def _settle(self, temporary: Path, final: Path) -> None:
        """A whole one that stands there already is another pod's of this training, and as good."""
        if not self._is_whole(final):
            shutil.rmtree(final, ignore_errors=True)
        try:
            temporary.rename(final)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if not self._is_whole(final):
                raise

    def _by_step(self) -> list[Path]:
        numbered = [path for path in self._folder.glob("step-*") if path.name[5:].isdigit()]
        return sorted(numbered, key=step_of)

    def _manifest(self, checkpoint: Path) -> dict[str, Any] | None:
        """None if it is another training's, or cannot be read."""
        try:
            manifest: dict[str, Any] = json.loads((checkpoint / _MANIFEST).read_bytes())
            return manifest if manifest["identity"] == self._identity else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _is_whole(self, checkpoint: Path) -> bool:
        manifest = self._manifest(checkpoint)
        if manifest is None:
            return False
        try:
            whole = bool(manifest["files"] == _files(checkpoint))
        except (OSError, KeyError):
            return False
        if not whole:
            _log.warning(
                "%s is damaged: its files are not those of its manifest; an older one is used", checkpoint
            )
        return whole


def _files(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): digests.of_file(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != _MANIFEST
    }

"""What the judge leaves, made without one, for benchmarks of the stage `train`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alignment_api import digests
from alignment_api.stage import CONTRACT_VERSION, Input, InputKind, Stage
from alignment_worker import rows
from alignment_worker.store import MANIFEST

RUN = "run-0"


def seal(folder: Path, name: str, found: Iterable[Mapping[str, Any]]) -> None:
    """A finished stage's folder with one file of rows, in place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / RUN).mkdir(parents=True)
    rows.write(folder / RUN / name, found)
    manifest = {
        "contractVersion": CONTRACT_VERSION,
        "stage": Stage.JUDGE,
        "configHash": "0",
        "run": RUN,
        "files": {f"{RUN}/{name}": digests.of_file(folder / RUN / name)},
        "result": {},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest))


def as_input(folder: Path) -> Input:
    return Input(uri=folder.as_uri(), kind=InputKind.STAGE, digest=digests.of_file(folder / MANIFEST))

"""What a stage's computation works with: `run(workspace) -> Outcome` is the whole of a stage module's interface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alignment_api.stage import StageConfig
from alignment_worker.inputs import Inputs
from alignment_worker.progress import Progress
from alignment_worker.shards import Shard
from alignment_worker.store import Places


@dataclass(frozen=True)
class Workspace:
    """`run_folder` takes the files that the manifest will name; `stage_folder` outlives a killed run.

    A stage reads inputs by role, writes below `run_folder` alone (training: checkpoints below
    `stage_folder/checkpoints` too), and never writes the manifest.
    """

    config: StageConfig
    config_hash: str  # what the manifest names it by
    inputs: Inputs
    places: Places
    stage_folder: Path
    run_folder: Path
    progress: Progress
    shard: Shard | None = None  # the part that this pod does; None: all of it

"""What the stages of an iteration left in the store, each file verified by its stage's manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignment_api import digests, uris
from alignment_api.cycle_status import Iteration
from alignment_api.iteration_report import ReportConfig
from alignment_api.stage import Located, Stage, StageResult
from alignment_worker import rows
from alignment_worker.artifacts import ANSWERS, COMPARISONS, GOLD_ANSWERS, NEAR_DUPLICATES, TRAINING_LOG
from alignment_worker.failures import WorkerError
from alignment_worker.store import MANIFEST, Places, SealedFolder, result_of

Row = dict[str, Any]
_ENDED_EARLY = {"Failed": "failed", "Running": "has not ended", "Pending": "has not begun"}


@dataclass(frozen=True)
class Artifact:
    """The rows of a file, or why there are none to show."""

    rows: list[Row] = field(default_factory=list)
    missing: str = ""


@dataclass(frozen=True)
class Artifacts:
    """Of the iteration that is reported on; `results` of all iterations that the store still has, by number."""

    answers: Artifact
    gold: Artifact
    comparisons: Artifact
    training: Artifact
    near: Artifact
    results: Mapping[int, Mapping[Stage, StageResult]]


def artifacts_of(config: ReportConfig, places: Places) -> Artifacts:
    """Raises InvalidConfigError if the URI of the iterations is none."""
    folder = places.path(config.iterations)
    iteration = config.iteration
    own = folder / str(iteration.number)

    def artifact(stage: Stage, name: str) -> Artifact:
        return _artifact(own, iteration, stage, name)

    numbers = {iteration.number, *(row.number for row in config.history)}
    return Artifacts(
        answers=artifact(Stage.EVALUATE, ANSWERS),
        gold=artifact(Stage.EVALUATE, GOLD_ANSWERS),
        comparisons=artifact(Stage.COMPARE, COMPARISONS),
        training=artifact(Stage.TRAIN, TRAINING_LOG),
        near=artifact(Stage.TRAIN, NEAR_DUPLICATES),
        results=results(config.iterations, numbers, places),
    )


def results(iterations: str, numbers: Iterable[int], places: Places) -> dict[int, dict[Stage, StageResult]]:
    """What each finished stage reported; a stage whose folder is gone, or is none, is left out."""
    folder = places.path(iterations)
    return {
        number: {
            stage: result
            for stage in Stage
            if (result := _result(folder, iterations, number, stage)) is not None
        }
        for number in sorted(numbers)
    }


def _result(folder: Path, iterations: str, number: int, stage: Stage) -> StageResult | None:
    inside = (str(number), stage.value)
    path = folder.joinpath(*inside)
    try:
        sealed = SealedFolder.open(path)
        located = Located(uri=uris.join(iterations, *inside), digest=digests.of_file(path / MANIFEST))
        return result_of(sealed.manifest, located)
    except (WorkerError, OSError):
        return None


def _artifact(own: Path, iteration: Iteration, stage: Stage, name: str) -> Artifact:
    entry = next((each for each in iteration.stages if each.name is stage), None)
    if entry is None:
        return Artifact(missing=f"The stage {stage.value} did not run in this iteration.")
    if entry.result is None:
        how = _ENDED_EARLY.get(entry.state, "has no result")
        return Artifact(missing=f"The stage {stage.value} {how}, so that there is nothing to show.")
    path = own / stage.value
    try:
        sealed = SealedFolder.open(path)
        found = digests.of_file(path / MANIFEST)
    except FileNotFoundError:
        gone = f"The artifacts of the stage {stage.value} are not in the store any more"
        return Artifact(
            missing=f"{gone}: retention (spec.history) has let them go, or somebody deleted them."
        )
    except (WorkerError, OSError) as error:
        return Artifact(missing=f"The artifacts of the stage {stage.value} cannot be read: {error}.")
    if found != entry.result.manifest.digest:
        changed = f"the manifest of the stage {stage.value} is not the one that the iteration worked with"
        return Artifact(missing=f"Not shown: {changed}. It was changed since.")
    return _rows(sealed, stage, name)


def _rows(sealed: SealedFolder, stage: Stage, name: str) -> Artifact:
    if sealed.digest_of(name) is None:
        return Artifact(missing=f"The stage {stage.value} made no {name}.")
    try:
        return Artifact(rows.load(sealed.verified(name)))
    except (WorkerError, OSError, ValueError) as error:
        return Artifact(missing=f"Not shown: {name} of the stage {stage.value} cannot be used: {error}.")

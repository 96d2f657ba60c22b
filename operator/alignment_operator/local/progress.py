"""How far the running stage of a local run is, as its worker's file says."""

from __future__ import annotations

import platform
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment_operator.api import POD, Manifest
from alignment_operator.local.directory import Directory
from alignment_operator.local.files import CorruptFileError, read_json


@dataclass(frozen=True)
class Said:
    """Of the part of the stage that is running."""

    done: float
    total: float | None
    unit: str
    seconds_left: float | None
    detail: str


def said_in(pod_folder: Path) -> Said | None:
    """None before the worker has said anything."""
    with suppress(CorruptFileError, OSError, KeyError, TypeError):
        said = read_json(pod_folder / "progress.json")
        if said is not None:
            return Said(
                done=said["done"],
                total=said.get("total"),
                unit=said.get("unit") or "",
                seconds_left=said.get("seconds_left"),
                detail=said.get("detail") or "",
            )
    return None


def with_progress(api: Directory, cycle: Manifest) -> Manifest:
    """The cycle as the operator on a cluster would show it: with the progress of the running stage in its status."""
    stages: list[dict[str, Any]] = cycle.get("status", {}).get("iteration", {}).get("stages", [])
    for pod in api.all(POD):
        job = pod["metadata"]["labels"].get("job-name")
        stage = next((each for each in stages if each["state"] == "Running" and each.get("job") == job), None)
        said = said_in(api.state / "jobs" / pod["metadata"]["name"])
        if stage is None or said is None or pod["status"].get("phase") != "Running":
            continue
        progress = {
            "done": said.done,
            "total": said.total or None,
            "unit": said.unit,
            "node": platform.node(),
        }
        stage["progress"] = {**progress, "secondsLeft": said.seconds_left}
    return cycle

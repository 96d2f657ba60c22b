"""A state folder as `alignctl run` leaves it, of iterations that the planner's world decided."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from alignment_operator.observed import Owner
from alignment_operator.render.revision import render_revision
from tests.cli.command import ended
from tests.report.stored import CLAIM, Stored

OWNER = Owner("team", "support", "uid-1", 1, "1", {})


def claim_of(state: Path) -> Path:
    return state / "claims" / CLAIM


def write(state: Path, stored: Stored) -> None:
    """The cycle with its status, and the ControllerRevisions that are left."""
    metadata = {
        "name": "support",
        "namespace": "team",
        "uid": "uid-1",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": "2026-11-23T02:59:00Z",
    }
    cycle = {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "AlignmentCycle",
        "metadata": metadata,
        "spec": stored.world.spec.to_wire(),
        "status": stored.world.status,
    }
    _write(state, "alignmentcycles", "support", cycle)
    for number, frozen in stored.world.frozen.items():
        revision = render_revision(OWNER, frozen)
        revision["metadata"] |= {"uid": f"revision-{number}", "resourceVersion": "1"}
        _write(state, "controllerrevisions", frozen.name, revision)


def _write(state: Path, plural: str, name: str, manifest: dict[str, Any]) -> None:
    file = state / "objects" / plural / "team" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(manifest))


def alignctl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In that folder, without a cluster; no traceback may ever show."""
    return ended(folder, *arguments)

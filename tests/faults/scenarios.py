"""What is run under faults: three ways that an iteration goes, between them every phase that there is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignment_operator.api import CYCLE, DATASET, Kind, Manifest

_RATIO = {"estimate": 1.0, "low": 0.95, "high": 1.05, "n": 300}
_LONGER = {"estimate": 2.0, "low": 1.9, "high": 2.1, "n": 300}
_NONE = {"estimate": 0.0, "low": -0.5, "high": 0.5, "n": 300}
_GOLD = {"estimate": 2.0, "low": -1.0, "high": 5.0, "n": 400, "p": 0.9, "discordant": 0.05}


@dataclass(frozen=True)
class Scenario:
    """`stages`: its Jobs, in their order. `waits`: for a person's approval. `spec` changes that of the cycle."""

    name: str
    outcome: str
    stages: Sequence[str]
    ratio: Manifest = field(default_factory=lambda: _RATIO)
    waits: bool = False
    spec: Manifest = field(default_factory=dict)


PROMOTED = Scenario(
    "promoted",
    "Promoted",
    ("ingest", "sample", "judge", "train", "evaluate", "compare", "promote"),
    spec={"evaluation": {"comparison": {}}},
)
REJECTED = Scenario(
    "rejected",
    "Rejected",
    ("sample", "judge", "train", "evaluate", "collect"),
    ratio=_LONGER,
    spec={"history": {"keepCandidates": 0}},
)
HELD = Scenario(
    "held",
    "Promoted",
    ("sample", "judge", "train", "evaluate", "promote"),
    waits=True,
    spec={"promotion": {"mode": "Manual"}},
)
APPROVAL = "approval"  # held as if it were a stage
SCENARIOS = (PROMOTED, REJECTED, HELD)


@dataclass(frozen=True)
class Run:
    """A scenario run once: objects that carry its name, and its folder of the store."""

    name: str
    scenario: Scenario
    namespace: str
    folder: Path

    def prepare(self, *held: str) -> None:
        """Write what its stages will report; the stages that are `held` will not end before `release`."""
        (self.folder / "hold").mkdir(parents=True)
        for stage in held:
            (self.folder / "hold" / stage).touch()
        (self.folder / "reports.json").write_text(json.dumps(_reports(self.scenario)))
        for path in (self.folder, self.folder / "hold"):
            path.chmod(0o777)

    @property
    def approvable(self) -> bool:
        """Whether no person is held back."""
        return not (self.folder / "hold" / APPROVAL).exists()

    def release(self) -> None:
        for file in (self.folder / "hold").iterdir():
            file.unlink()

    def objects(self) -> Sequence[tuple[Kind, Manifest]]:
        """What a user applies."""
        store = {"uri": f"pvc://store/{self.name}"}
        evaluation: Manifest = {
            "goldSet": {"uri": "pvc://store/gold"},
            "heldOutPrompts": {"uri": "pvc://store/h"},
        }
        promotion = {"targets": [{"configMap": {"name": self.name, "key": "uri"}}]}
        changes = self.scenario.spec
        cycle: Manifest = {
            "policy": {"model": "pvc://store/m0"},
            "store": store,
            "prompts": {"uri": "pvc://store/prompts"},
            "judge": {"verifier": {}},
            **changes,
            "evaluation": evaluation | changes.get("evaluation", {}),
            "promotion": promotion | changes.get("promotion", {}),
        }
        if "ingest" not in self.scenario.stages:
            return ((CYCLE, self._object(CYCLE, cycle)),)
        source = {"name": "feedback", "files": {"uri": "pvc://store/pairs"}}
        dataset = self._object(DATASET, {"store": store, "sources": [source]})
        return ((DATASET, dataset), (CYCLE, self._object(CYCLE, cycle | {"datasets": [{"name": self.name}]})))

    def _object(self, kind: Kind, spec: Manifest) -> Manifest:
        metadata: dict[str, Any] = {
            "name": self.name,
            "namespace": self.namespace,
            "labels": {"run": self.name},
        }
        if kind == CYCLE:
            metadata["annotations"] = {"alignment.dev/run": "1"}
        return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec}


def _reports(scenario: Scenario) -> Manifest:
    evaluated = {
        "counts": {"answers": 300},
        "measurements": {"lengthRatio": scenario.ratio, "truncatedShare": _NONE, "truncatedChange": _NONE},
        "byCategory": {"facts": {"gold": _GOLD}},
    }
    work = {
        "ingest": {"read": 3, "kept": 3},
        "sample": {"completions": 3},
        "judge": {"judgements": 3},
        "train": {"steps": 3},
        "compare": {"comparisons": 3},
        "promote": {"sealed": 1},
        "collect": {"iterations": 1, "deleted": 1},
    }
    return {stage: {"counts": counts} for stage, counts in work.items()} | {"evaluate": evaluated}

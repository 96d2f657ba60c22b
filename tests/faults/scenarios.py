"""What is run under faults: ways that an iteration goes, between them every phase and every kind of write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from alignment_operator.api import CYCLE, DATASET, INFERENCE_SERVICE, Kind, Manifest

_RATIO = {"estimate": 1.0, "low": 0.95, "high": 1.05, "n": 300}
_LONGER = {"estimate": 2.0, "low": 1.9, "high": 2.1, "n": 300}
_NONE = {"estimate": 0.0, "low": -0.5, "high": 0.5, "n": 300}
_SPREAD: Manifest = {"sampling": {"shards": 2}, "training": {"nodes": 2}}
_UNTIL_THE_GATES = ("sample", "judge", "train", "evaluate")
_A_MONTH = 30 * 86_400
FIRST = "sample"
_GOLD = {"estimate": 2.0, "low": -1.0, "high": 5.0, "n": 400, "p": 0.9, "discordant": 0.05}


@dataclass(frozen=True)
class Scenario:
    """`stages`: its Jobs that end by themselves, in their order. `spec` changes that of the cycle.

    What others do meanwhile: `waits`: a person approves. `suspended`: in these stages one suspends the cycle, and
    resumes it. `cancelled`: so many iterations are, each in its first stage. `preempted`: in this stage, by Kueue.
    `served`: a target is KServe's.
    """

    name: str
    outcome: str
    stages: Sequence[str]
    ratio: Manifest = field(default_factory=lambda: _RATIO)
    waits: bool = False
    suspended: Sequence[str] = ()
    cancelled: int = 0
    preempted: str = ""
    served: bool = False
    spec: Manifest = field(default_factory=dict)

    @property
    def iterations(self) -> int:
        return self.cancelled or 1

    @property
    def queue(self) -> str:
        """Kueue's, in which its Jobs wait; empty if they do not."""
        return str(self.spec.get("defaults", {}).get("queueName", ""))

    @property
    def scheduled(self) -> bool:
        """Whether its first iteration is started by the clock, not by a person."""
        return "trigger" in self.spec

    @property
    def held(self) -> Sequence[str]:
        """Stages that end only when people have done with them."""
        stages = (*self.suspended, self.preempted, FIRST if self.cancelled else "")
        return tuple(filter(None, stages))


PROMOTED = Scenario(
    "promoted",
    "Promoted",
    ("ingest", "sample", "judge", "train", "evaluate", "compare", "promote"),
    served=True,
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
SUSPENDED = Scenario("suspended", "Rejected", _UNTIL_THE_GATES, ratio=_LONGER, suspended=("sample", "train"))
QUEUED = Scenario(
    "queued",
    "Rejected",
    _UNTIL_THE_GATES,
    ratio=_LONGER,
    suspended=("sample",),
    preempted="train",
    spec=_SPREAD | {"defaults": {"queueName": "team-a"}},
)
CANCELLED = Scenario(
    "cancelled",
    "Cancelled",
    ("collect",),
    cancelled=4,
    spec={
        "trigger": {"schedule": "0 * * * *", "startingDeadlineSeconds": 7200, "cooldownSeconds": _A_MONTH},
        "history": {"iterations": 3},
    },
)
SPREAD = Scenario("spread", "Rejected", _UNTIL_THE_GATES, ratio=_LONGER, spec=_SPREAD)
APPROVAL = "approval"  # held as if it were a stage
SCENARIOS = (PROMOTED, REJECTED, HELD, SUSPENDED, QUEUED, CANCELLED)


@dataclass(frozen=True)
class Run:
    """A scenario run once: objects that carry its name, and its folder of the store."""

    name: str
    scenario: Scenario
    namespace: str
    folder: Path

    def prepare(self, *held: str) -> None:
        """Write what its stages will report; the stages that are `held` too will not end before `release`."""
        (self.folder / "hold").mkdir(parents=True)
        for stage in (*self.scenario.held, *held):
            (self.folder / "hold" / stage).touch()
        (self.folder / "reports.json").write_text(json.dumps(_reports(self.scenario)))
        for path in (self.folder, self.folder / "hold"):
            path.chmod(0o777)

    @property
    def approvable(self) -> bool:
        """Whether no person is held back."""
        return not (self.folder / "hold" / APPROVAL).exists()

    def release(self, stage: str) -> None:
        (self.folder / "hold" / stage).unlink(missing_ok=True)

    def objects(self) -> Sequence[tuple[Kind, Manifest]]:
        """What a user applies, and the operator reconciles."""
        store = {"uri": f"pvc://store/{self.name}"}
        evaluation: Manifest = {
            "goldSet": {"uri": "pvc://store/gold"},
            "heldOutPrompts": {"uri": "pvc://store/h"},
        }
        targets: list[Manifest] = [{"configMap": {"name": self.name, "key": "uri"}}]
        if self.scenario.served:
            targets.append({"inferenceService": {"name": self.name}})
        changes = self.scenario.spec
        cycle: Manifest = {
            "policy": {"model": "pvc://store/m0"},
            "store": store,
            "prompts": {"uri": "pvc://store/prompts"},
            "judge": {"verifier": {}},
            **changes,
            "evaluation": evaluation | changes.get("evaluation", {}),
            "promotion": {"targets": targets} | changes.get("promotion", {}),
        }
        if "ingest" not in self.scenario.stages:
            return ((CYCLE, self._object(CYCLE, cycle)),)
        source = {"name": "feedback", "files": {"uri": "pvc://store/pairs"}}
        dataset = self._object(DATASET, {"store": store, "sources": [source]})
        return ((DATASET, dataset), (CYCLE, self._object(CYCLE, cycle | {"datasets": [{"name": self.name}]})))

    def surroundings(self) -> Sequence[tuple[Kind, Manifest]]:
        """What is there beside them."""
        if not self.scenario.served:
            return ()
        model = {"modelFormat": {"name": "huggingface"}}
        return ((INFERENCE_SERVICE, self._object(INFERENCE_SERVICE, {"predictor": {"model": model}})),)

    def status(self) -> Manifest | None:
        """What the operator has left in the cycle's, before it was away for the hour of the schedule's slot."""
        if not self.scenario.scheduled:
            return None
        slot = datetime.now(UTC) - timedelta(hours=1)
        return {"observedGeneration": 1, "iterations": 0, "nextRunAt": f"{slot:%Y-%m-%dT%H:%M:%SZ}"}

    def _object(self, kind: Kind, spec: Manifest) -> Manifest:
        metadata: dict[str, Any] = {
            "name": self.name,
            "namespace": self.namespace,
            "labels": {"run": self.name},
        }
        if kind == CYCLE and not self.scenario.scheduled:
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
        "collect": {"folders": 1, "deleted": 1},
    }
    return {stage: {"counts": counts} for stage, counts in work.items()} | {"evaluate": evaluated}

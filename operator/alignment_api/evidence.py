"""The evidence of an iteration: what was measured and decided, bound by digest to the candidate."""

from __future__ import annotations

from typing import Any

from alignment_api import digests
from alignment_api.gates import GateResult
from alignment_api.measurements import Measurement
from alignment_api.model import Model


class EvidenceStage(Model):
    """A stage's manifest and what it measured."""

    name: str
    manifest_digest: str
    counts: dict[str, int]
    measurements: dict[str, Measurement]
    by_category: dict[str, dict[str, Measurement]]


class Evidence(Model):
    """Sealed in the store by the stage `promote`; its digest is what a person approves."""

    namespace: str
    cycle: str
    cycle_uid: str
    iteration: int
    spec: dict[str, Any]  # as the iteration froze it: by it the verdicts can be given again
    incumbent_digest: str
    candidate_uri: str
    candidate_digest: str
    inputs: dict[str, str]
    stages: list[EvidenceStage]
    gates: list[GateResult]

    def digest(self) -> str:
        """Of the canonical JSON, which is also what is written to the store."""
        return digests.of_json(self.to_wire())

"""From the verdicts of all gates to what becomes of the candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from alignment_api.gates import GateResult


class DecisionKind(StrEnum):
    PROMOTE = "Promote"
    HOLD = "Hold"
    REJECT = "Reject"
    FAIL = "Fail"


@dataclass(frozen=True)
class Decision:
    """What becomes of the candidate, and why: `reason` is a GateReason or a conditions.Reason."""

    kind: DecisionKind
    reason: str
    message: str


def decide(
    results: Sequence[GateResult],
    on_inconclusive: Literal["Hold", "Reject"],
    mode: Literal["Automatic", "Manual"],
) -> Decision:
    """An Error fails the iteration, a failed gate rejects, an inconclusive one holds or rejects, else it promotes."""
    raise NotImplementedError

"""From the verdicts of all gates to what becomes of the candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from alignment_api.conditions import Reason
from alignment_api.gates import Gate, GateReason, GateResult, Verdict

ALWAYS = (Gate.GOLD_SET, Gate.LENGTH_DRIFT)
MAX_LENGTH = 4096


class DecisionKind(StrEnum):
    """Promote, hold for a person, reject the candidate, or fail the iteration."""

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
    needs_approval: str,
) -> Decision:
    """A failed gate rejects, an Error fails the iteration, an inconclusive one holds or rejects, else promote.

    `needs_approval` says why a person has to agree to a promotion; empty: nobody has to.
    One failed gate is reason enough to refuse, whatever else could not be judged.

    The reason is that of the first gate that decided, rewardHacking before all others.
    """
    absent = [gate for gate in ALWAYS if all(result.name != gate for result in results)]
    if absent:
        message = f"{absent[0]}: the gate was not judged"
        return Decision(DecisionKind.FAIL, GateReason.MEASUREMENT_MISSING, message)
    by_verdict = {verdict: _ordered(results, verdict) for verdict in Verdict}
    if failed := by_verdict[Verdict.FAILED]:
        return Decision(DecisionKind.REJECT, _reason(failed), _told("refused", failed))
    if errors := by_verdict[Verdict.ERROR]:
        return Decision(DecisionKind.FAIL, _reason(errors), _told("could not be judged", errors))
    if undecided := by_verdict[Verdict.INCONCLUSIVE]:
        kind = DecisionKind.HOLD if on_inconclusive == "Hold" else DecisionKind.REJECT
        return Decision(kind, Reason.INCONCLUSIVE, _told("inconclusive", undecided))
    message = f"all {len(results)} gates passed: {', '.join(result.name for result in results)}"
    if needs_approval:
        return Decision(DecisionKind.HOLD, Reason.WAITING_FOR_APPROVAL, f"{message}; {needs_approval}")
    return Decision(DecisionKind.PROMOTE, Reason.ALL_GATES_PASSED, message)


def _ordered(results: Sequence[GateResult], verdict: Verdict) -> list[GateResult]:
    chosen = [result for result in results if result.verdict == verdict]
    return sorted(chosen, key=lambda result: result.name != Gate.REWARD_HACKING)


def _reason(results: list[GateResult]) -> str:
    return results[0].reason or GateReason.MEASUREMENT_MISSING


def _told(how: str, results: list[GateResult]) -> str:
    """`refused by rewardHacking, lengthDrift. rewardHacking: …. lengthDrift: ….`"""
    names = ", ".join(result.name for result in results)
    room = (MAX_LENGTH - 256) // len(results) - 32
    texts = [
        f"{result.name}: {result.message if len(result.message) <= room else result.message[: room - 1] + '…'}."
        for result in results
    ]
    return " ".join([f"{how} by {names}." if how == "refused" else f"{how}: {names}.", *texts])

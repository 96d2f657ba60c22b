"""What a gate could have detected, and what would settle one that could not tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.iteration_report import Measured
from alignment_operator.gates import gold_set, wording

# The gates themselves say what would settle them, in a clause that begins so.
_CLAUSES = re.compile(r"; |: (?=about \d|raise |set another judge|too few prompts)")
_SETTLES = re.compile(
    r"(about \d|more |no number of |it is too close |raise evaluation|set another judge|too few prompts).*"
)


def detectable(gate: GateResult, measured: Sequence[Measured], spec: AlignmentCycleSpec | None) -> str:
    """Empty where nothing was measured."""
    if gate.name is Gate.GOLD_SET:
        return _drops(gate, spec)
    told = []
    for each in measured:
        low, high = each.measurement.low, each.measurement.high
        if low is not None and high is not None:
            unit = f" {each.unit}" if each.unit else ""
            half = wording.number((high - low) / 2, each.digits)
            told.append(f"{half}{unit} in {each.label} (n = {each.measurement.n})")
    return f"differences of more than {', '.join(told)}" if told else ""


def _drops(gate: GateResult, spec: AlignmentCycleSpec | None) -> str:
    """Four times of five, as the gate itself counts."""
    confidence = (spec.evaluation.confidence_percent if spec else 95.0) / 100
    told = []
    for name, change in gate.measurements.items():
        if not change.n:
            continue
        drop = gold_set.detectable_drop(change.discordant or 0.0, change.n, confidence)
        size = f"{wording.number(drop)} points" if drop <= 100 else "no size"
        told.append(f"{size} in {name.replace(gold_set.FROM_INITIAL, ' from M_0')} ({change.n} items)")
    return f"four times of five, a drop of {', '.join(told)}" if told else ""


def settles(gate: GateResult) -> str:
    """Of a gate that passed, nothing is open; of one that failed, nothing is to be measured again."""
    match gate.verdict:
        case Verdict.PASSED:
            return ""
        case Verdict.FAILED:
            return "nothing: harm is shown, and measuring more would not undo it"
        case Verdict.ERROR:
            return "a measurement that can be used; the message says what was wrong with this one"
        case Verdict.INCONCLUSIVE:
            return "; ".join(_open(gate)) or _fallback(gate.reason)


_BY_REASON = {
    GateReason.JUDGE_MAY_BE_SWAYED: "reading the answers with the phrase, or gold items enough to show a gain",
    GateReason.GOLD_UNDECIDED: "more gold items of that category, until the drop is shown or ruled out",
    GateReason.GOLD_SET_TOO_SMALL: "gold items that the incumbent gets right, and graders that fit them",
}


def _fallback(reason: GateReason | None) -> str:
    return _BY_REASON.get(reason, "more data of the same kind") if reason else "more data of the same kind"


def _open(gate: GateResult) -> list[str]:
    """The clauses that say so; of the goldSet with the category, which a clause before them begins with."""
    told = []
    subject = ""
    for clause in _CLAUSES.split(gate.message):
        subject = next((name for name in gate.measurements if clause.startswith(name)), subject)
        if _SETTLES.fullmatch(clause):
            what = clause.replace(" would settle it", "")
            told.append(f"{subject}: {what}" if gate.name is Gate.GOLD_SET and subject else what)
    return told

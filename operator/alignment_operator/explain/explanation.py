"""What became of an iteration, and why: the sentence that a person reads first, then gate by gate."""

from __future__ import annotations

from collections.abc import Sequence

from alignment_api.conditions import Reason
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import Iteration, Tested
from alignment_api.gates import Gate, GateResult, Verdict
from alignment_api.iteration_report import ExplainedGate, Explanation
from alignment_operator.explain.advice import next_steps
from alignment_operator.explain.measured import measured_of
from alignment_operator.explain.power import detectable, settles
from alignment_operator.plan.iteration import waits_for_approval


def explained(
    iteration: Iteration,
    spec: AlignmentCycleSpec | None,
    approve: str,
    reject: str,
    tested: Tested | None = None,
) -> Explanation:
    """`spec` is what it froze; `approve` and `reject` are the commands that decide on one that is held."""
    outcome = outcome_of(iteration)
    gates = sorted(iteration.gates, key=_weight)
    return Explanation(
        outcome=outcome,
        sentence=_sentence(outcome, iteration, gates),
        why=[f"{gate.name}: {_in_short(gate)}" for gate in _deciding(outcome, gates)]
        or _failure(outcome, iteration),
        gates=[_gate(gate, spec, tested) for gate in gates],
        next=next_steps(outcome, iteration, gates, approve, reject),
    )


_NOTES = {
    Gate.REWARD_HACKING: "Beyond each limit is what hacking looks like; no single one of them refuses.",
    Gate.COLLAPSE: "It fails only if answers become alike and depend less on their prompts, both.",
}


def outcome_of(iteration: Iteration) -> str:
    """Its outcome; Held while a person is asked, Running before."""
    if iteration.outcome:
        return iteration.outcome
    return "Held" if waits_for_approval(iteration) else "Running"


def _weight(gate: GateResult) -> tuple[int, bool]:
    """As they weigh in the decision: what failed first, and of that rewardHacking."""
    order = (Verdict.FAILED, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.PASSED)
    first = gate.name is Gate.REWARD_HACKING and gate.verdict is not Verdict.PASSED
    return order.index(gate.verdict), not first


def _deciding(outcome: str, gates: Sequence[GateResult]) -> list[GateResult]:
    if outcome in {"Promoted", "RolledBack"}:
        return []
    worst = gates[0].verdict if gates else Verdict.PASSED
    if outcome == "Failed" and worst is not Verdict.ERROR:
        return []  # they had let it pass, or a person had: the stage `promote` broke off
    return [gate for gate in gates if gate.verdict is worst is not Verdict.PASSED]


def _in_short(gate: GateResult) -> str:
    """The first of what it says; the gates' own section says the rest."""
    first, *others = gate.message.split("; ")
    return f"{first}; more below" if len(others) > 1 else gate.message


def _failure(outcome: str, iteration: Iteration) -> list[str]:
    """What the stage said that failed."""
    if outcome != "Failed" or not iteration.message:
        return []
    return [iteration.message.removeprefix(f"stage {iteration.stage} failed: ")]


def _gate(gate: GateResult, spec: AlignmentCycleSpec | None, tested: Tested | None) -> ExplainedGate:
    measured = measured_of(gate, spec)
    return ExplainedGate(
        name=gate.name,
        verdict=gate.verdict,
        reason=gate.reason,
        message=gate.message,
        warnings=list(gate.warnings),
        measured=measured,
        note=_luck(tested) if gate.name is Gate.WIN_RATE else _NOTES.get(gate.name, ""),
        detectable=detectable(gate, measured, spec),
        settles=settles(gate),
    )


def _luck(tested: Tested | None) -> str:
    if tested is None:
        return ""
    candidates = "1 candidate was" if tested.candidates == 1 else f"{tested.candidates} candidates were"
    spent, luck = tested.alpha_spent_percent, "that any of them passed this gate by luck alone"
    bound = "the chance, at most," if spent < 100 else "no bound any more on the chance"
    return f"{candidates} tested since M_0, and the α spent is {spent:g} %: {bound} {luck}."


def _sentence(outcome: str, iteration: Iteration, gates: Sequence[GateResult]) -> str:
    named = _named(_deciding(outcome, gates))
    passed = f"all {len(gates)} gates passed"
    match outcome:
        case "Promoted" if iteration.reason == Reason.ROLLED_BACK:
            return "The candidate is promoted: a person had rolled it back, and has gone back to it since."
        case "Promoted":
            return f"The candidate is promoted: {_approved(gates) if iteration.reason == 'Approved' else passed}."
        case "RolledBack":
            return "The candidate was promoted, and a person has rolled it back since."
        case "Held":
            asked = (iteration.message or "").rpartition("; ")[2]
            why = f"{named} could not tell" if named else f"{passed}, and {asked}"
            return f"A person decides: {why}. Until then the incumbent serves."
        case "Running":
            return f"Not decided yet: the stage {iteration.stage or 'to come'} runs."
    return f"The incumbent stays: {_why_not(outcome, iteration, gates, named)}."


def _approved(gates: Sequence[GateResult]) -> str:
    open_ = _named([gate for gate in gates if gate.verdict is Verdict.INCONCLUSIVE])
    return f"a person approved its evidence{f', though {open_} could not tell' if open_ else ''}"


def _why_not(outcome: str, iteration: Iteration, gates: Sequence[GateResult], named: str) -> str:
    if outcome == "Cancelled":
        return "a person ended the iteration before it was decided"
    if iteration.reason == Reason.REJECTED_BY_PERSON:
        return "a person refused the candidate"
    if outcome == "Failed":
        if named:
            return f"{named} could not be judged"
        reason = f" ({iteration.reason})" if iteration.reason else ""
        return f"the stage {iteration.stage} failed{reason}" if iteration.stage else f"it failed{reason}"
    if gates and gates[0].verdict is Verdict.INCONCLUSIVE:
        return f"{named} could not tell, and gates.onInconclusive is Reject"
    return f"the candidate is refused by {named or iteration.reason}"


def _named(gates: Sequence[GateResult]) -> str:
    names = [gate.name.value for gate in gates]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)

"""What a person can do next about an iteration: by how it ended, and by what each gate says."""

from __future__ import annotations

from collections.abc import Mapping

from alignment_api.conditions import Reason
from alignment_api.cycle_status import Iteration
from alignment_api.gates import GateReason, GateResult, Verdict

_GENTLER = (
    "train more gently: a lower spec.training.learningRate, fewer epochs, or a higher beta; or set "
    "spec.policy.reference: Initial"
)
BY_REASON: Mapping[GateReason, str] = {
    GateReason.GOLD_REGRESSION: f"read what was lost (the report shows the items); then {_GENTLER}",
    GateReason.GOLD_SET_TOO_SMALL: "enlarge the gold set by as many items as it says, in the categories that it names",
    GateReason.GOLD_UNDECIDED: "enlarge the gold set in that category, or look at the lost items and decide",
    GateReason.GOLD_NOT_SHOWN_NON_INFERIOR: "enlarge the gold set, or ask for mode: NoHarm, which needs fewer items",
    GateReason.LENGTH_DRIFT: (
        "make length cost something: spec.judge.lengthPenalty or shortCorrectPercent; if longer answers are wanted, "
        "raise gates.lengthDrift.maxIncreasePercent"
    ),
    GateReason.LENGTH_UNDECIDED: "add held-out prompts, as many as it says",
    GateReason.LENGTH_TRUNCATED: (
        "raise evaluation.heldOutPrompts.maxNewTokens, and see whether the candidate ends its answers at all"
    ),
    GateReason.COLLAPSE: f"read the answers that repeat; then {_GENTLER}",
    GateReason.COLLAPSE_UNDECIDED: "add held-out prompts, or read the answers that repeat and decide",
    GateReason.DIVERGED: f"read a few answers; if they went astray, {_GENTLER}; if not, raise the limit",
    GateReason.DIVERGENCE_UNDECIDED: "add held-out prompts, or read a few answers and decide",
    GateReason.NO_CHANGE: (
        "train harder: a higher learning rate, more epochs or more pairs; is the judge's scoreSpread above 0?"
    ),
    GateReason.NOT_PREFERRED: (
        "read the losses: is the training judge (spec.judge) after something else than the comparison's?"
    ),
    GateReason.WIN_RATE_UNDECIDED: (
        "add held-out prompts; if there are more of them than evaluation.comparison.maxComparisons, raise that"
    ),
    GateReason.JUDGE_NOT_INDEPENDENT: "name another judge in evaluation.comparison.judge, or enlarge the gold set",
    GateReason.JUDGE_MAY_BE_SWAYED: (
        "read the answers that share the phrase: does it speak to the judge? If not, approve, or compare by a verifier"
    ),
    GateReason.REWARD_HACKING: (
        "do not train on with this judge: read the wins that it saw, then take another spec.judge, or train a new "
        "reward model"
    ),
    GateReason.REWARD_HACKING_UNDECIDED: "enlarge the gold set, and read the wins that the training judge saw",
    GateReason.CONTAMINATED: (
        "take out of the prompts or datasets what the message counts, or set gates.contamination.action: Exclude"
    ),
    GateReason.MEASUREMENT_MISSING: "see why it was not measured: the log of evaluate or compare",
    GateReason.WRONG_CANDIDATE: "start another iteration; if it happens again, somebody else writes to the store",
    GateReason.TOO_LITTLE_WORK: "add held-out prompts, or lower evaluation.comparison.minComparisons",
}
_INPUT = "mend what the message names, and start another iteration"
_ENDED: Mapping[str, str] = {
    Reason.REJECTED_BY_PERSON: "nothing is open: a person refused it",
    Reason.CANCELLED: "nothing is open: a person ended it; start another iteration when you like",
    Reason.ROLLED_BACK: "start another iteration, which compares with what is promoted now",
    Reason.INCUMBENT_CHANGED: "start another iteration, which compares with what is promoted now",
    Reason.EVIDENCE_MISMATCH: "find out who edited the status; the next iteration measures anew",
    Reason.FROZEN_SPEC_LOST: "start another iteration; its ControllerRevision must not be deleted",
    Reason.JOB_FAILED: "see the stage's log; exit code 137 is most often memory: raise its resources",
    Reason.DEADLINE_EXCEEDED: "raise activeDeadlineSeconds of the stage, or give it more resources",
    Reason.PENDING_DEADLINE_EXCEEDED: (
        "see the scheduler's or kubelet's words in the message: node, image, quota or input"
    ),
    Reason.TOO_MANY_DISRUPTIONS: "give the stage a quieter node or a higher priority",
    "Crashed": (
        "start the server that the message names; if it names none, the stage's log has the traceback: if it is not "
        "memory or disk, report it"
    ),
    "TrainingDiverged": _GENTLER,
    "TooFewPairs": "sample more prompts, or lower spec.judge.minMargin",
    "JudgeStale": "train a new reward model: docs/reward-model.md",
    "JudgeBudgetExhausted": "raise spec.judge.llm.budget, or sample less",
}


def next_steps(
    outcome: str, iteration: Iteration, gates: list[GateResult], approve: str, reject: str
) -> list[str]:
    """`outcome` is an Outcome, Held or Running; `approve` and `reject` are the commands that say so."""
    match outcome:
        case "Running":
            return ["wait for the verdict"]
        case "Promoted":
            return ["nothing: the next iteration starts from it"]
        case "RolledBack":
            return [
                "find out what the gates did not see, and add it to the gold set; the next promotion waits for a person"
            ]
        case "Held":
            return [
                f"approve it, if what you read convinces you: {approve} --evidence {_beginning(iteration)}",
                f"or reject it: {reject}",
                *_about(gates, Verdict.INCONCLUSIVE),
            ]
    if reason := _ENDED.get(iteration.reason or ""):
        return [reason]
    if outcome == "Failed":  # what was inconclusive a person had approved
        return _about(gates, Verdict.ERROR) or [_INPUT]
    return _about(gates, Verdict.FAILED) or _about(gates, Verdict.INCONCLUSIVE) or [_INPUT]


def _beginning(iteration: Iteration) -> str:
    """Of the digest of its evidence: enough to tell it from any other."""
    return (iteration.evidence_digest or "")[: len("sha256:") + 12]


def _about(gates: list[GateResult], verdict: Verdict) -> list[str]:
    return [
        f"{gate.name}: {BY_REASON[gate.reason]}" for gate in gates if gate.verdict is verdict and gate.reason
    ]

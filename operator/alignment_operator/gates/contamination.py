"""Gate contamination: are gold or held-out prompts in what is trained on?"""

from __future__ import annotations

from collections.abc import Mapping

from alignment_api.cycle import ContaminationGate
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.measurements import LEAKED_PROMPTS, LEAKED_ROWS, NEAR_PROMPTS, NEAR_ROWS, Measurement
from alignment_api.stage import Stage, StageResult
from alignment_operator.gates import wording

_COUNTED = {LEAKED_PROMPTS: ("excluded", "promptsGiven"), LEAKED_ROWS: ("droppedLeaked", "rowsGiven")}
_NEAR = {NEAR_PROMPTS: ("nearPrompts", "nearPromptsGiven"), NEAR_ROWS: ("nearRows", "nearRowsGiven")}
_ASKED = {LEAKED_PROMPTS: "prompts", LEAKED_ROWS: "rows of datasets"}
_ASKED_NEAR = {NEAR_PROMPTS: "prompts", NEAR_ROWS: "prompts of datasets"}


def judge(limits: ContaminationGate, results: Mapping[Stage, StageResult]) -> GateResult:
    """DESIGN §6, contamination. `results`: of the stages that are done; one that is not has found nothing yet."""
    found = _found(results, _COUNTED)
    near = {name: measured for name, measured in _found(results, _NEAR).items() if measured.n}
    if not found:
        return wording.error(
            Gate.CONTAMINATION, GateReason.MEASUREMENT_MISSING, "no stage says what it looked at"
        )
    told = " and ".join(
        f"{measured.estimate:.0f} of {measured.n} {_ASKED[name]}" for name, measured in found.items()
    )
    leaked = any(measured.estimate for measured in found.values())
    fails = leaked and limits.action == "Fail"
    what = (
        f"{told} hold gold or held-out prompts"
        if leaked
        else f"none of {_looked_at(found)} holds a gold or held-out prompt"
    )
    advice = (
        ": take them out, or write action: Exclude"
        if fails
        else ", and are left out of training"
        if leaked
        else ""
    )
    return GateResult(
        name=Gate.CONTAMINATION,
        verdict=Verdict.FAILED if fails else Verdict.PASSED,
        reason=GateReason.CONTAMINATED if fails else None,
        measurements=found | near,
        limit=0.0 if limits.action == "Fail" else None,
        message=what + advice,
        warnings=_warnings(near),
    )


def stopped(message: str) -> GateResult:
    """Of a stage that would not train on what it found: `message` says what."""
    return GateResult(
        name=Gate.CONTAMINATION,
        verdict=Verdict.FAILED,
        reason=GateReason.CONTAMINATED,
        limit=0.0,
        message=message[: wording.MAX_LENGTH],
    )


def _warnings(near: Mapping[str, Measurement]) -> list[str]:
    """Embeddings only flag: what is alike may ask something else."""
    told = " and ".join(
        f"{measured.estimate:.0f} of {measured.n} {_ASKED_NEAR[name]}"
        for name, measured in near.items()
        if measured.estimate
    )
    return [f"{told} resemble gold or held-out prompts, by embedding: the report shows them"] if told else []


def _looked_at(found: Mapping[str, Measurement]) -> str:
    return " and ".join(f"{measured.n} {_ASKED[name]}" for name, measured in found.items())


def _found(
    results: Mapping[Stage, StageResult], counted: Mapping[str, tuple[str, str]]
) -> dict[str, Measurement]:
    """Prompts are looked at by the stage that samples, rows of datasets by those that train on them."""
    return {
        name: Measurement(estimate=max(each[some] for each in told), n=max(each[given] for each in told))
        for name, (some, given) in counted.items()
        if (told := [result.counts for result in results.values() if given in result.counts])
    }

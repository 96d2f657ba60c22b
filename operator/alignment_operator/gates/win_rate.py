"""Gate winRate: is the candidate preferred to the incumbent?"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp

from alignment_api.cycle import WinRateGate
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.measurements import (
    GOLD_POOLED,
    NEW_PHRASE,
    WIN_RATE,
    WIN_RATE_EVIDENCE,
    WIN_RATE_EVIDENCE_NEEDED,
    WIN_RATE_LENGTH_CONTROLLED,
    WIN_RATE_NOT_LONGER,
    Measurement,
)
from alignment_operator.gates import wording

MOST_OF_A_PHRASE = 25.0  # percentage points, without a gain on the gold set
MOST_OF_ANY_PHRASE = 50.0  # with one

_SHOWN = (
    WIN_RATE,
    WIN_RATE_NOT_LONGER,
    WIN_RATE_LENGTH_CONTROLLED,
    NEW_PHRASE,
    WIN_RATE_EVIDENCE,
    WIN_RATE_EVIDENCE_NEEDED,
)


def judge(
    limits: WinRateGate,
    compared: Mapping[str, Measurement],
    evaluated: Mapping[str, Measurement],
    min_comparisons: int,
    *,
    independent: bool,
    reads_answers: bool,
) -> GateResult:
    """DESIGN §6, winRate. `compared` and `evaluated`: measurements of the stages compare and evaluate.

    `independent`: whether another judge compares than the one that the candidate was trained by; `reads_answers`:
    whether it can be taken in by what they say.
    """
    problem = _unusable(limits, compared, evaluated, min_comparisons, independent, reads_answers)
    if problem:
        return wording.error(Gate.WIN_RATE, *problem)
    rate, fair, gold = compared[WIN_RATE], compared[WIN_RATE_NOT_LONGER], evaluated.get(GOLD_POOLED)
    phrase = compared.get(NEW_PHRASE)
    crept_in = phrase is not None and _above(phrase, MOST_OF_A_PHRASE)
    shown = {name: compared[name] for name in _SHOWN if name in compared}
    if gold and (crept_in or not independent):
        shown[GOLD_POOLED] = gold
    verdict, reason, message = _verdict(limits.min_percent, rate, fair, None if independent else gold)
    if verdict is Verdict.PASSED and phrase is not None and crept_in:
        verdict, reason, message = _with_a_phrase(message, phrase, gold)
    if verdict is Verdict.PASSED and limits.false_discovery_percent is not None:
        verdict, reason, message = _against_all_tests(message, compared)
    return GateResult(
        name=Gate.WIN_RATE,
        verdict=verdict,
        reason=reason,
        measurements=shown,
        limit=limits.min_percent,
        message=message[: wording.MAX_LENGTH],
    )


def _unusable(
    limits: WinRateGate,
    compared: Mapping[str, Measurement],
    evaluated: Mapping[str, Measurement],
    min_comparisons: int,
    independent: bool,
    reads_answers: bool,
) -> tuple[GateReason, str] | None:
    needed = {WIN_RATE: compared.get(WIN_RATE)}
    if reads_answers:
        needed[NEW_PHRASE] = compared.get(NEW_PHRASE)
    if not independent:
        needed[GOLD_POOLED] = evaluated.get(GOLD_POOLED)
    problem = wording.unusable(needed)
    if problem:
        return problem
    if limits.false_discovery_percent is not None:
        evidence = {name: compared.get(name) for name in (WIN_RATE_EVIDENCE, WIN_RATE_EVIDENCE_NEEDED)}
        if problem := wording.unusable(evidence):
            return problem
    if WIN_RATE_NOT_LONGER not in compared:
        return GateReason.MEASUREMENT_MISSING, f"{WIN_RATE_NOT_LONGER} was not measured"
    count = compared[WIN_RATE].n
    if count < min_comparisons:
        return (
            GateReason.TOO_LITTLE_WORK,
            f"{count} comparisons, fewer than minComparisons ({min_comparisons}): add held-out prompts or lower "
            "evaluation.comparison.minComparisons",
        )
    return None


def _verdict(
    limit: float, rate: Measurement, fair: Measurement, gold: Measurement | None
) -> tuple[Verdict, GateReason | None, str]:
    """`gold`: set if the judges are the same."""
    text = f"{_measured(rate)}; where its answer is not over a fifth longer {_measured(fair)}"
    at_least = f"{wording.number(limit)} %"
    if _below(rate, limit):
        return (
            Verdict.FAILED,
            GateReason.NOT_PREFERRED,
            f"the candidate is not preferred: {text}, limit {at_least}",
        )
    if _below(fair, limit):
        reason = f"the candidate is not preferred where it is not longer: {text}, limit {at_least}"
        return Verdict.FAILED, GateReason.NOT_PREFERRED, reason
    if not _above(rate, limit) or not _above(fair, limit):
        open_ = fair if _above(rate, limit) else rate
        return (
            Verdict.INCONCLUSIVE,
            GateReason.WIN_RATE_UNDECIDED,
            f"not decided: {text}; the lower end must be above {at_least}; "
            f"{wording.enough(open_, limit, 'such comparisons' if open_ is fair else 'comparisons')}",
        )
    won = "the candidate is preferred" if _above(rate, 50) else "the candidate's win rate is above the limit"
    if gold is None:
        return Verdict.PASSED, None, f"{won}: {text}, limit {at_least}"
    gain = f"gold gain {wording.number(gold.estimate or 0.0, signed=True)} points {wording.interval(gold)}"
    if _above(gold, 0):
        message = f"{won}: {text}, limit {at_least}; by the judge it was trained by, but {gain}"
        return Verdict.PASSED, None, message
    return (
        Verdict.INCONCLUSIVE,
        GateReason.JUDGE_NOT_INDEPENDENT,
        f"the candidate wins ({text}), but by the judge that it was trained by, and {gain} over {gold.n} items "
        "does not show that it became better: set another judge in evaluation.comparison.judge, or enlarge the "
        "gold set",
    )


def _with_a_phrase(
    message: str, phrase: Measurement, gold: Measurement | None
) -> tuple[Verdict, GateReason | None, str]:
    """It may be what the judge likes, or obeys. A gain on the gold set, which it cannot feign, lets some of it pass."""
    most = _above(phrase, MOST_OF_ANY_PHRASE)
    gained = gold is not None and _above(gold, 0)
    if gained and not most:
        return Verdict.PASSED, None, message
    points = f"{wording.number(phrase.estimate or 0.0)} points {wording.interval(phrase)}"
    return (
        Verdict.INCONCLUSIVE,
        GateReason.JUDGE_MAY_BE_SWAYED,
        f"{message}; but {points} more of the answers than before have one phrase"
        f"{'' if gained else ', and the gold set shows no gain'}: read whether it speaks to the judge",
    )


def _against_all_tests(
    message: str, compared: Mapping[str, Measurement]
) -> tuple[Verdict, GateReason | None, str]:
    """By itself it is preferred; whether that is enough after all the candidates before it, its e-value says."""
    found, needed = (compared[name].estimate or 0.0 for name in (WIN_RATE_EVIDENCE, WIN_RATE_EVIDENCE_NEEDED))
    told = f"e-value {_e_value(found)}, {_e_value(needed)} needed after the tests before it"
    if found >= needed:
        return Verdict.PASSED, None, f"{message}; {told}"
    return (
        Verdict.INCONCLUSIVE,
        GateReason.WIN_RATE_UNDECIDED,
        f"not decided among all candidates since M_0: {told}; by itself {message}; more comparisons would settle it",
    )


def _e_value(logarithm: float) -> str:
    return f"{exp(min(logarithm, 20)):,.0f}" if logarithm <= 20 else "over 1e8"


def _measured(rate: Measurement) -> str:
    if rate.estimate is None:
        return "no comparison"
    return f"{wording.number(rate.estimate)} % {wording.interval(rate)} of {rate.n} comparisons"


def _above(measurement: Measurement, limit: float) -> bool:
    """The estimate too: an interval that leaves it out is no reason to promote."""
    low, estimate = measurement.low, measurement.estimate
    return low is not None and estimate is not None and min(low, estimate) > limit


def _below(measurement: Measurement, limit: float) -> bool:
    high, estimate = measurement.high, measurement.estimate
    return high is not None and estimate is not None and max(high, estimate) < limit

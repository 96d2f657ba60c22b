"""Gate lengthDrift: are answers getting longer, or much shorter?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignment_api.cycle import LengthDriftGate
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.measurements import (
    CANDIDATE_TOKENS,
    INCUMBENT_TOKENS,
    LENGTH_RATIO,
    LENGTH_RATIO_FROM_INITIAL,
    TRUNCATED_CHANGE,
    TRUNCATED_SHARE,
    Measurement,
)
from alignment_operator.gates import wording

MAX_TRUNCATED_INCREASE = 2.0  # percentage points
MAX_TRUNCATED_PERCENT = 2.0


@dataclass(frozen=True)
class Finding:
    """A ratio of lengths and what it may be."""

    name: str
    ratio: Measurement
    least: float
    most: float

    @property
    def estimate(self) -> float:
        assert self.ratio.estimate is not None
        return self.ratio.estimate

    @property
    def limit(self) -> float:
        """The one that the estimate is beyond or, within both, the one that the interval reaches."""
        reaches_least = self.ratio.low is not None and self.ratio.low < self.least
        within_most = self.ratio.high is not None and self.ratio.high <= self.most
        if self.estimate < self.least or (reaches_least and within_most):
            return self.least
        return self.most

    @property
    def drifted(self) -> bool:
        """The estimate is beyond a limit, and the interval excludes that nothing changed."""
        longer = self.estimate > self.most and self.ratio.low is not None and self.ratio.low > 1
        shorter = self.estimate < self.least and self.ratio.high is not None and self.ratio.high < 1
        return longer or shorter

    @property
    def within(self) -> bool:
        """The whole interval is within the limits, and so is the estimate, should the interval leave it out."""
        low, high = self.ratio.low, self.ratio.high
        return (high is not None and max(high, self.estimate) <= self.most) and (
            self.least == 0 or (low is not None and min(low, self.estimate) >= self.least)
        )


def judge(
    limits: LengthDriftGate,
    overall: Mapping[str, Measurement],
    by_category: Mapping[str, Mapping[str, Measurement]],
) -> GateResult:
    """DESIGN §6, lengthDrift. `overall` and `by_category`: of the stage evaluate."""
    ratios = _ratios(limits, overall, by_category)
    truncated = {name: overall.get(name) for name in (TRUNCATED_SHARE, TRUNCATED_CHANGE)}
    problem = wording.unusable(ratios | truncated)
    if problem:
        return wording.error(Gate.LENGTH_DRIFT, *problem)
    findings = [
        Finding(name, ratio, *allowed(limits, name)) for name, ratio in ratios.items() if ratio is not None
    ]
    measurements = {name: value for name, value in (ratios | truncated).items() if value is not None}
    verdict, reason, limit, parts = _verdict(findings, overall)
    return GateResult(
        name=Gate.LENGTH_DRIFT,
        verdict=verdict,
        reason=reason,
        measurements=measurements,
        limit=limit,
        message=wording.joined(parts),
    )


def _ratios(
    limits: LengthDriftGate,
    overall: Mapping[str, Measurement],
    by_category: Mapping[str, Mapping[str, Measurement]],
) -> dict[str, Measurement | None]:
    names = [LENGTH_RATIO]
    if limits.max_increase_from_initial_percent is not None:
        names.append(LENGTH_RATIO_FROM_INITIAL)
    categories = [category for category, values in by_category.items() if LENGTH_RATIO in values]
    ratios = {name: overall.get(name) for name in names}
    for name in names:
        ratios |= {f"{name}/{category}": by_category[category].get(name) for category in categories}
    return ratios


def allowed(limits: LengthDriftGate, name: str) -> tuple[float, float]:
    """Of the ratio of this name, the least and the most; a least of 0 is no limit. Against M_0 there is none."""
    increase, decrease = limits.max_increase_percent, limits.max_decrease_percent
    if name.startswith(LENGTH_RATIO_FROM_INITIAL):
        increase, decrease = limits.max_increase_from_initial_percent or 0.0, None
    return 0.0 if decrease is None else 1 - decrease / 100, 1 + increase / 100


def _verdict(
    findings: list[Finding], overall: Mapping[str, Measurement]
) -> tuple[Verdict, GateReason | None, float, list[str]]:
    """Verdict, reason, the limit that decided and the message's parts."""
    share, change = overall[TRUNCATED_SHARE].estimate, overall[TRUNCATED_CHANGE].estimate
    assert share is not None
    assert change is not None
    cut_off = [f"{wording.number(share)} % of the candidate's answers are cut off at maxNewTokens"]
    drifted = [finding for finding in findings if finding.drifted]
    undecided = [finding for finding in findings if not finding.within]
    more_cut_off = change >= MAX_TRUNCATED_INCREASE
    if more_cut_off:
        cut_off = [f"{cut_off[0]}, {wording.number(change)} points more than before"]
    if drifted:
        parts = _drifts(drifted, overall) + (cut_off if more_cut_off else [])
        return Verdict.FAILED, GateReason.LENGTH_DRIFT, drifted[0].limit, parts
    if more_cut_off:
        return Verdict.FAILED, GateReason.LENGTH_TRUNCATED, MAX_TRUNCATED_INCREASE, cut_off
    if share > MAX_TRUNCATED_PERCENT:
        advice = "their length is not known: raise evaluation.heldOutPrompts.maxNewTokens"
        parts = [f"{cut_off[0]}; {advice}", *(_undecided(finding) for finding in undecided)]
        return Verdict.INCONCLUSIVE, GateReason.LENGTH_TRUNCATED, MAX_TRUNCATED_PERCENT, parts
    if undecided:
        parts = [_undecided(finding) for finding in undecided]
        return Verdict.INCONCLUSIVE, GateReason.LENGTH_UNDECIDED, undecided[0].limit, parts
    parts = [f"{_measured(finding)} is within the limit {finding.limit:.2f}" for finding in findings]
    return Verdict.PASSED, None, findings[0].limit, parts


def _measured(finding: Finding) -> str:
    return (
        f"{finding.name} {finding.estimate:.2f} {wording.interval(finding.ratio, 2)} "
        f"over {finding.ratio.n} prompts"
    )


def _drifts(drifted: list[Finding], overall: Mapping[str, Measurement]) -> list[str]:
    """The longer ones, then the shorter ones, each with its limit."""
    parts = []
    for how, is_longer in (("longer", True), ("shorter", False)):
        some = [_drift(finding, overall) for finding in drifted if (finding.estimate > 1) is is_longer]
        parts += [f"answers are {how}: {some[0]}", *some[1:]] if some else []
    return parts


def _drift(finding: Finding, overall: Mapping[str, Measurement]) -> str:
    candidate, incumbent = overall.get(CANDIDATE_TOKENS), overall.get(INCUMBENT_TOKENS)
    tokens = ""
    if finding.name == LENGTH_RATIO and candidate and incumbent and candidate.estimate and incumbent.estimate:
        tokens = f" ({incumbent.estimate:.1f} → {candidate.estimate:.1f} tokens)"
    return f"{_measured(finding)}{tokens}, limit {finding.limit:.2f}"


def _undecided(finding: Finding) -> str:
    text = f"{_measured(finding)} spans the limit {finding.limit:.2f}"
    if finding.ratio.low is None or finding.ratio.high is None:
        return f"{text}: too few prompts to tell"
    beyond = not finding.least <= finding.estimate <= finding.most
    return f"{text}; {wording.enough(finding.ratio, 1.0 if beyond else finding.limit, 'held-out prompts')}"

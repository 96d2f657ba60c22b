"""Gate goldSet: did the candidate forget anything?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2, sqrt
from statistics import NormalDist

from alignment_api.cycle import GoldSetGate
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.measurements import GOLD, GOLD_ACCURACY, GOLD_FROM_INITIAL, Measurement, accuracy_before
from alignment_operator.gates import wording

POWER = 0.80
FROM_INITIAL = "/fromInitial"  # behind a category's name, in the result's measurements: against M_0


@dataclass(frozen=True)
class Finding:
    """One category against the incumbent or M_0. Changes, drops and limits are in percentage points."""

    name: str
    change: Measurement
    limit: float
    accuracy: float | None  # of the candidate, percent
    rejected: bool  # the harm test, Holm's correction over the categories included
    detectable: float  # the drop that would have been found
    detectable_at_best: float  # the same if hardly an item had changed

    @property
    def drop(self) -> float:
        assert self.change.estimate is not None
        return -self.change.estimate

    @property
    def harmed(self) -> bool:
        return self.drop > self.limit and self.rejected

    @property
    def ruled_out(self) -> bool:
        """Whether a drop beyond the limit is: the one-sided lower bound clears it."""
        return self.change.lower_bound is not None and self.change.lower_bound > -self.limit

    @property
    def undecided(self) -> bool:
        """A drop beyond the limit, as large as would have been found, and yet not shown: by Holm, or by chance."""
        return self.drop > self.limit and not self.rejected and self.drop >= self.detectable

    @property
    def before(self) -> float | None:
        """The accuracy before, percent."""
        return None if self.accuracy is None else accuracy_before(self.accuracy, self.change)

    @property
    def blind(self) -> bool:
        """Before, less was right than would have to be lost to be noticed."""
        return self.before is not None and self.before < self.detectable

    def noticed(self, limit: float) -> bool:
        """Whether a drop of `limit` points would have been found, or is ruled out by items enough to say so."""
        return self.detectable <= limit or (self.ruled_out and self.detectable_at_best <= limit)


def judge(
    limits: GoldSetGate, by_category: Mapping[str, Mapping[str, Measurement]], confidence: float
) -> GateResult:
    """DESIGN §6, goldSet. `by_category`: of the stage evaluate; `confidence`: a share."""
    problem = _unusable(limits, by_category)
    if problem:
        return wording.error(Gate.GOLD_SET, *problem)
    findings = list(_findings(limits, by_category, confidence))
    if limits.mode == "NonInferior":
        return _non_inferior(findings)
    return _no_harm(findings, limits.max_undetected_drop_points, confidence)


def limit_of(limits: GoldSetGate, name: str) -> float:
    """The largest drop, in points, that is allowed in a category; with FROM_INITIAL behind its name, against M_0."""
    if name.endswith(FROM_INITIAL):
        return limits.max_drop_from_initial_points or 0.0
    return limits.max_drop_of(name)


def detectable_drop(discordant: float, items: int, confidence: float) -> float:
    """The drop, in points, that the harm test finds with a probability of 80 %: √((z + z.80)²·d/n).

    At 95 % the constant is 6.18 (Connor 1987, Biometrics 43, for McNemar's test). d, the share of discordant
    items, is at least what the exact test needs to reject at all, or a handful of items that did not change
    would prove anything.
    """
    least = _least_discordant(confidence) / items
    return 100 * sqrt(_power_constant(confidence) * max(discordant, least) / items)


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure (1979) rejects at the family-wise level `alpha`."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected


def _power_constant(confidence: float) -> float:
    normal = NormalDist()
    return (normal.inv_cdf(confidence) + normal.inv_cdf(POWER)) ** 2


def _least_discordant(confidence: float) -> int:
    """The fewest discordant items that the one-sided exact binomial test can reject with."""
    return ceil(log2(1 / (1 - confidence)) - 1e-9)


def _unusable(
    limits: GoldSetGate, by_category: Mapping[str, Mapping[str, Measurement]]
) -> tuple[GateReason, str] | None:
    measured = [category for category, values in by_category.items() if {GOLD, GOLD_ACCURACY} & set(values)]
    for category in limits.categories or []:
        if category.name not in measured:
            there = ", ".join(sorted(measured)) or "none"
            return (
                GateReason.MEASUREMENT_MISSING,
                f"gates.goldSet.categories names {category.name}, of which the gold set has no item; "
                f"its categories are: {there}",
            )
    if not measured:
        return GateReason.MEASUREMENT_MISSING, "no category of the gold set was measured"
    needed = [GOLD] + ([GOLD_FROM_INITIAL] if limits.max_drop_from_initial_points is not None else [])
    values = {
        f"{name} of category {category}": by_category[category].get(name)
        for category in measured
        for name in needed
    }
    return wording.unusable(values) or _untested(values, limits.mode)


def _untested(values: Mapping[str, Measurement | None], mode: str) -> tuple[GateReason, str] | None:
    for name, value in values.items():
        assert value is not None
        if value.p is None or value.discordant is None:
            return GateReason.MEASUREMENT_MISSING, f"{name} came without its harm test"
        if mode == "NonInferior" and value.lower_bound is None:
            return GateReason.MEASUREMENT_MISSING, f"{name} came without its one-sided lower bound"
    return None


def _findings(
    limits: GoldSetGate, by_category: Mapping[str, Mapping[str, Measurement]], confidence: float
) -> Iterable[Finding]:
    comparisons = [(GOLD, "")]
    if limits.max_drop_from_initial_points is not None:
        comparisons.append((GOLD_FROM_INITIAL, FROM_INITIAL))
    for key, suffix in comparisons:
        changes = {name: values[key] for name, values in by_category.items() if key in values}
        rejected = holm([change.p for change in changes.values() if change.p is not None], 1 - confidence)
        for (category, change), is_rejected in zip(changes.items(), rejected, strict=True):
            accuracy = by_category[category].get(GOLD_ACCURACY)
            yield Finding(
                name=category + suffix,
                change=change,
                limit=limit_of(limits, category + suffix),
                accuracy=accuracy.estimate if accuracy else None,
                rejected=is_rejected,
                detectable=detectable_drop(change.discordant or 0.0, change.n, confidence),
                detectable_at_best=detectable_drop(0.0, change.n, confidence),
            )


def _no_harm(findings: list[Finding], max_undetected: float, confidence: float) -> GateResult:
    harmed = [finding for finding in findings if finding.harmed]
    if harmed:
        return _result(
            Verdict.FAILED, GateReason.GOLD_REGRESSION, harmed, findings, [_harm(found) for found in harmed]
        )
    undecided = [finding for finding in findings if finding.undecided]
    if undecided:
        parts = [_undecided(finding) for finding in undecided]
        return _result(Verdict.INCONCLUSIVE, GateReason.GOLD_UNDECIDED, undecided, findings, parts)
    unnoticed = [finding for finding in findings if not finding.noticed(max_undetected)]
    if unnoticed:
        parts = [_too_small(finding, max_undetected, confidence) for finding in unnoticed]
        return _result(Verdict.INCONCLUSIVE, GateReason.GOLD_SET_TOO_SMALL, unnoticed, findings, parts)
    if all(finding.blind for finding in findings):
        parts = [_nothing_to_lose(finding) for finding in findings]
        return _result(Verdict.INCONCLUSIVE, GateReason.GOLD_SET_TOO_SMALL, findings, findings, parts)
    parts = [_no_harm_found(finding) for finding in findings]
    return _result(Verdict.PASSED, None, sorted(findings, key=_slack)[:1], findings, parts)


def _non_inferior(findings: list[Finding]) -> GateResult:
    open_ = [finding for finding in findings if not finding.ruled_out]
    if open_:
        parts = [_not_ruled_out(finding) for finding in open_]
        return _result(Verdict.INCONCLUSIVE, GateReason.GOLD_NOT_SHOWN_NON_INFERIOR, open_, findings, parts)
    parts = [
        f"{_movement(finding)}: a drop of more than {wording.number(finding.limit)} points is ruled out"
        for finding in findings
    ]
    return _result(Verdict.PASSED, None, sorted(findings, key=_slack)[:1], findings, parts)


def _result(
    verdict: Verdict,
    reason: GateReason | None,
    deciding: list[Finding],
    findings: list[Finding],
    parts: list[str],
) -> GateResult:
    return GateResult(
        name=Gate.GOLD_SET,
        verdict=verdict,
        reason=reason,
        measurements={finding.name: finding.change for finding in findings},
        limit=-deciding[0].limit,
        message=wording.joined(parts),
        warnings=[
            *(_not_shown(finding) for finding in findings if _unproven(finding)),
            *(_nothing_to_lose(finding) for finding in findings if finding.blind),
        ][:8],
    )


def _slack(finding: Finding) -> float:
    return finding.limit - finding.drop


def _unproven(finding: Finding) -> bool:
    return finding.drop > finding.limit and not finding.rejected


def _movement(finding: Finding) -> str:
    """`reasoning 62.0 → 64.5 %`, or the change alone where the accuracy is not known."""
    if finding.accuracy is None:
        return f"{finding.name} {wording.number(-finding.drop, signed=True)} points"
    return f"{finding.name} {finding.before:.1f} → {finding.accuracy:.1f} %"


def _no_harm_found(finding: Finding) -> str:
    if _unproven(finding):
        return f"{_movement(finding)}: harm not shown ({wording.chance(finding.change.p)}); {_found(finding)}"
    return f"{_movement(finding)}: no harm found; {_found(finding)}"


def _found(finding: Finding) -> str:
    if finding.detectable > 100:
        return "no drop could have been found"
    return f"a drop of {wording.number(finding.detectable)} points would have been found"


def _undecided(finding: Finding) -> str:
    return (
        f"{_movement(finding)}: dropped by {wording.number(finding.drop)} points {wording.interval(finding.change)}, "
        f"at most {wording.number(finding.limit)} are allowed; harm is neither shown "
        f"({wording.chance(finding.change.p)}) nor ruled out by {finding.change.n} items"
    )


def _nothing_to_lose(finding: Finding) -> str:
    return (
        f"{finding.name}: only {finding.before:.1f} % were right before, so that no drop of "
        f"{wording.number(finding.detectable)} points could be seen: are grader and answers right?"
    )


def _harm(finding: Finding) -> str:
    return (
        f"{_movement(finding)}: dropped by {wording.number(finding.drop)} points "
        f"{wording.interval(finding.change)}, at most {wording.number(finding.limit)} are allowed; harm is shown "
        f"on {finding.change.n} items ({wording.chance(finding.change.p)})"
    )


def _too_small(finding: Finding, max_undetected: float, confidence: float) -> str:
    text = (
        f"{_movement(finding)}: no harm found, but {finding.change.n} items would have shown only a drop of "
        f"{wording.number(finding.detectable)} points or more, {wording.number(max_undetected)} must be noticed"
    )
    if not max_undetected:
        return text
    constant, share = _power_constant(confidence), max_undetected / 100
    needed = max(
        ceil(constant * (finding.change.discordant or 0.0) / share**2),
        ceil(sqrt(constant * _least_discordant(confidence)) / share),
    )
    return f"{text}: about {needed} items of it would settle it"


def _not_ruled_out(finding: Finding) -> str:
    bound = finding.change.lower_bound
    assert bound is not None
    text = (
        f"{_movement(finding)}: a drop of {wording.number(-bound)} points is not ruled out by "
        f"{finding.change.n} items, at most {wording.number(finding.limit)} are allowed"
    )
    if finding.rejected:
        return f"{text}; harm is shown ({wording.chance(finding.change.p)})"
    if finding.drop >= finding.limit:
        return f"{text}; more items would not help while the drop is {wording.number(finding.drop)} points"
    needed = ceil(finding.change.n * ((-finding.drop - bound) / (finding.limit - finding.drop)) ** 2)
    return f"{text}; about {needed} items of it would settle it if the change stays so"


def _not_shown(finding: Finding) -> str:
    drop, limit = (wording.number(value) for value in (finding.drop, finding.limit))
    if drop == limit:
        drop, limit = (wording.number(value, 2) for value in (finding.drop, finding.limit))
    return (
        f"{finding.name} dropped by {drop} points, more than "
        f"{limit}, which may be chance ({wording.chance(finding.change.p)})"
    )

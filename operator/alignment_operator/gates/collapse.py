"""Gate collapse: are answers becoming canned?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignment_api.cycle import CollapseGate
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.measurements import (
    CANDIDATE_ENTROPY,
    DISTINCT2_DROP,
    DISTINCT2_DROP_FROM_INITIAL,
    IDENTICAL_CHANGE,
    INCUMBENT_ENTROPY,
    PROMPT_DEPENDENCE_CHANGE,
    PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL,
    Measurement,
)
from alignment_operator.gates import wording


@dataclass(frozen=True)
class Key:
    """One of the two: `turned` as far as the estimate says, `shown` if the interval excludes no change."""

    turned: bool
    shown: bool
    text: str


@dataclass(frozen=True)
class Pair:
    """Both keys against the incumbent or M_0, and the limit of the first."""

    diversity: Key
    dependence: Key
    limit: float

    @property
    def turned(self) -> bool:
        return self.diversity.turned and self.dependence.turned

    @property
    def shown(self) -> bool:
        return self.turned and self.diversity.shown and self.dependence.shown

    @property
    def text(self) -> str:
        return f"{self.diversity.text}, {self.dependence.text}"


def judge(limits: CollapseGate, overall: Mapping[str, Measurement]) -> GateResult:
    """DESIGN §6, collapse. `overall`: of the stage evaluate."""
    names = [DISTINCT2_DROP, IDENTICAL_CHANGE, PROMPT_DEPENDENCE_CHANGE]
    if limits.max_distinct_drop_from_initial_percent is not None:
        names += [DISTINCT2_DROP_FROM_INITIAL, PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL]
    measurements = {name: overall.get(name) for name in names}
    problem = wording.unusable(measurements)
    if problem:
        return wording.error(Gate.COLLAPSE, *problem)
    pairs = _pairs(limits, overall)
    verdict, reason, parts = _verdict(pairs)
    deciding = max(pairs, key=lambda pair: (pair.shown, pair.turned))
    return GateResult(
        name=Gate.COLLAPSE,
        verdict=verdict,
        reason=reason,
        measurements={name: value for name, value in measurements.items() if value is not None},
        limit=deciding.limit,
        message=wording.joined(parts),
        warnings=[*_diversity_alone(pairs), *_entropy(limits, overall)],
    )


def _pairs(limits: CollapseGate, overall: Mapping[str, Measurement]) -> list[Pair]:
    limit = limits.max_distinct_drop_percent
    pairs = [
        Pair(
            _diversity(overall[DISTINCT2_DROP], overall[IDENTICAL_CHANGE], limit),
            _dependence(overall[PROMPT_DEPENDENCE_CHANGE], ""),
            limit,
        )
    ]
    limit_from_initial = limits.max_distinct_drop_from_initial_percent
    if limit_from_initial is not None:
        pairs.append(
            Pair(
                _diversity(overall[DISTINCT2_DROP_FROM_INITIAL], None, limit_from_initial, " from M_0"),
                _dependence(overall[PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL], " from M_0"),
                limit_from_initial,
            )
        )
    return pairs


def _diversity(distinct: Measurement, identical: Measurement | None, limit: float, since: str = "") -> Key:
    """Beyond the limit: distinct-2 dropped by more percent, or repeated answers rose by more points."""
    assert distinct.estimate is not None
    repeats = identical.estimate if identical else None
    fell = distinct.estimate > limit
    repeated = repeats is not None and repeats > limit
    text = f"distinct-2 {_relative(-distinct.estimate)}{since} {_drop_interval(distinct)}"
    if identical is not None and repeats is not None:
        text += (
            f", answers that equal another prompt's {wording.number(repeats, signed=True)} points "
            f"{wording.interval(identical)}"
        )
    return Key(
        turned=fell or repeated,
        shown=(fell and _above_zero(distinct))
        or (repeated and identical is not None and _above_zero(identical)),
        text=f"{text} (limit {wording.number(limit)})",
    )


def _dependence(change: Measurement, since: str) -> Key:
    assert change.estimate is not None
    return Key(
        turned=change.estimate < 0,
        shown=change.high is not None and change.high < 0,
        text=(
            f"prompt dependence {wording.number(change.estimate, 2, signed=True)} nats an answer{since} "
            f"{wording.interval(change, 2)}"
        ),
    )


def _verdict(pairs: list[Pair]) -> tuple[Verdict, GateReason | None, list[str]]:
    shown = [pair for pair in pairs if pair.shown]
    if shown:
        parts = [f"answers fit any prompt: {pair.text}" for pair in shown]
        return Verdict.FAILED, GateReason.COLLAPSE, parts
    turned = [pair for pair in pairs if pair.turned]
    if turned:
        parts = [
            f"answers may fit any prompt, but an interval does not exclude that nothing changed: {pair.text}; "
            "more held-out prompts would settle it"
            for pair in turned
        ]
        return Verdict.INCONCLUSIVE, GateReason.COLLAPSE_UNDECIDED, parts
    return Verdict.PASSED, None, [pair.text for pair in pairs]


def _diversity_alone(pairs: list[Pair]) -> list[str]:
    return [
        f"diversity fell while answers depend on their prompts as before: {pair.text}; becoming right and short "
        "looks so too"
        for pair in pairs
        if pair.diversity.turned and not pair.dependence.turned
    ]


def _entropy(limits: CollapseGate, overall: Mapping[str, Measurement]) -> list[str]:
    candidate, incumbent = overall.get(CANDIDATE_ENTROPY), overall.get(INCUMBENT_ENTROPY)
    if not candidate or not incumbent or candidate.estimate is None or not incumbent.estimate:
        return []
    drop = 100 * (1 - candidate.estimate / incumbent.estimate)
    if drop <= limits.max_distinct_drop_percent:
        return []
    return [
        f"token entropy fell by {drop:.0f} %: {incumbent.estimate:.2f} → {candidate.estimate:.2f} nats a token"
    ]


def _above_zero(measurement: Measurement) -> bool:
    return measurement.low is not None and measurement.low > 0


def _relative(change: float) -> str:
    return f"{wording.number(change, signed=True)} %"


def _drop_interval(drop: Measurement) -> str:
    """The interval of a drop, told as a change."""
    low = None if drop.high is None else -drop.high
    high = None if drop.low is None else -drop.low
    return wording.interval(Measurement(low=low, high=high, n=drop.n))

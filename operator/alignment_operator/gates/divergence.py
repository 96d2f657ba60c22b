"""Gate divergence: is the candidate still near the model that it came from, and another one at all?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignment_api.cycle import DivergenceGate
from alignment_api.gates import Gate, GateReason, GateResult, Verdict
from alignment_api.measurements import DIVERGENCE, DIVERGENCE_FROM_INITIAL, Measurement
from alignment_operator.gates import wording

LEAST_NATS = 1e-4  # a token; below it nothing was learned that anybody could notice
_DIGITS = 4


@dataclass(frozen=True)
class Side:
    """The divergence from the incumbent or from M_0, and its limit."""

    measured: Measurement
    limit: float
    since: str

    @property
    def above(self) -> bool:
        return self.measured.estimate is not None and self.measured.estimate > self.limit

    @property
    def shown(self) -> bool:
        return self.above and self.measured.low is not None and self.measured.low > self.limit

    @property
    def text(self) -> str:
        assert self.measured.estimate is not None
        return (
            f"{wording.number(self.measured.estimate, _DIGITS)} nats a token from {self.since} "
            f"{wording.interval(self.measured, _DIGITS)} (limit {self.limit:g})"
        )


def judge(limits: DivergenceGate, overall: Mapping[str, Measurement]) -> GateResult:
    """DESIGN §6, divergence. `overall`: of the stage evaluate."""
    wanted = {DIVERGENCE: (limits.max_nats_per_token, "the incumbent")}
    if limits.max_nats_per_token_from_initial is not None:
        wanted[DIVERGENCE_FROM_INITIAL] = (limits.max_nats_per_token_from_initial, "M_0")
    measurements = {name: overall.get(name) for name in wanted}
    problem = wording.unusable(measurements)
    if problem:
        return wording.error(Gate.DIVERGENCE, *problem)
    sides = [Side(overall[name], *about) for name, about in wanted.items()]
    verdict, reason, message = _verdict(sides)
    deciding = max(sides, key=lambda side: (side.shown, side.above))
    return GateResult(
        name=Gate.DIVERGENCE,
        verdict=verdict,
        reason=reason,
        measurements={name: value for name, value in measurements.items() if value is not None},
        limit=deciding.limit,
        message=message,
    )


def _verdict(sides: list[Side]) -> tuple[Verdict, GateReason | None, str]:
    if shown := [side.text for side in sides if side.shown]:
        return Verdict.FAILED, GateReason.DIVERGED, wording.joined(shown)
    nearest = sides[0].measured
    assert nearest.estimate is not None
    if max(nearest.estimate, nearest.high or 0.0) < LEAST_NATS:
        what = f"the candidate answers as the incumbent does: {sides[0].text}; below {LEAST_NATS:g} nothing changed"
        return Verdict.FAILED, GateReason.NO_CHANGE, what
    if open_ := [side for side in sides if side.above]:
        parts = [
            f"{side.text}; {wording.enough(side.measured, side.limit, 'held-out prompts')}" for side in open_
        ]
        return Verdict.INCONCLUSIVE, GateReason.DIVERGENCE_UNDECIDED, wording.joined(parts)
    return Verdict.PASSED, None, wording.joined([side.text for side in sides])

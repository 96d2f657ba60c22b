"""How often the win rate was put to the test since M_0: an equal candidate's luck adds up, week after week."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import AlignmentCycleStatus, Tested
from alignment_api.gates import Gate, GateResult, Verdict
from alignment_operator.observed import Frozen

_NONE = Tested(candidates=0, passed=0, alpha_spent_percent=0)


def so_far(status: AlignmentCycleStatus, frozen: Mapping[int, Frozen]) -> Tested | None:
    """Since M_0. Where the status is behind the last frozen iteration, that one counts as tested, and not as passed."""
    last = max(frozen, default=0)
    if last <= (status.iteration.number if status.iteration else 0):
        return status.tested
    there = frozen[last]
    if there.spec.gates.win_rate is None:
        return there.tested
    return _one_more(there.tested, there.spec, level(there.spec, there.tested), passed=False)


def level(spec: AlignmentCycleSpec, before: Tested | None) -> float | None:
    """Of the next test, in percent, where false discoveries are to be controlled.

    e-LOND (Xu and Ramdas 2024, arXiv:2311.06412): α·γ_t·(passed before + 1), with γ_t = 1 / (t (t + 1)), which sums
    to 1. A candidate passes with an e-value of 1 / level. Whatever the tests have to do with each other, the expected
    share of false ones among those that passed is at most α.
    """
    gate, known = spec.gates.win_rate, before or _NONE
    if gate is None or gate.false_discovery_percent is None:
        return None
    number = known.candidates + 1
    return gate.false_discovery_percent * (known.passed + 1) / (number * (number + 1))


def counted(
    before: Tested | None, gates: Sequence[GateResult], spec: AlignmentCycleSpec, level_percent: float | None
) -> Tested | None:
    """With the test of the iteration whose gates these are, if its win rate was judged.

    Without a level of its own a candidate passes by the lower end of a two-sided interval, so that half of its α is the
    test's. The levels add up, whether the tests depend on each other or not (Bonferroni's inequality).
    """
    verdict = next((gate.verdict for gate in gates if gate.name is Gate.WIN_RATE), Verdict.ERROR)
    if verdict is Verdict.ERROR:
        return before
    return _one_more(before, spec, level_percent, passed=verdict is Verdict.PASSED)


def _one_more(
    before: Tested | None, spec: AlignmentCycleSpec, level_percent: float | None, *, passed: bool
) -> Tested:
    known = before or _NONE
    own = (100 - spec.evaluation.confidence_percent) / 2 if level_percent is None else level_percent
    return Tested(
        candidates=known.candidates + 1,
        passed=known.passed + passed,
        alpha_spent_percent=round(known.alpha_spent_percent + own, 6),
    )

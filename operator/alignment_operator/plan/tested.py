"""How often the win rate was put to the test since M_0: an equal candidate's luck adds up, week after week."""

from __future__ import annotations

from collections.abc import Sequence

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import Tested
from alignment_api.gates import Gate, GateResult, Verdict

_NONE = Tested(candidates=0, passed=0, alpha_spent_percent=0)


def level(spec: AlignmentCycleSpec, before: Tested | None) -> float | None:
    """Of the next test, in percent, where false discoveries are to be controlled.

    e-LOND (Xu and Ramdas 2024, arXiv:2311.06412): α·γ_t·(passed before + 1), with γ_t = 1 / (t (t + 1)), which sums
    to 1. A candidate passes with an e-value of 1 / level. Whatever the tests have to do with each other, the expected
    share of false ones among those that passed is at most α.
    """
    gate, so_far = spec.gates.win_rate, before or _NONE
    if gate is None or gate.false_discovery_percent is None:
        return None
    number = so_far.candidates + 1
    return gate.false_discovery_percent * (so_far.passed + 1) / (number * (number + 1))


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
    so_far = before or _NONE
    own = (100 - spec.evaluation.confidence_percent) / 2 if level_percent is None else level_percent
    return Tested(
        candidates=so_far.candidates + 1,
        passed=so_far.passed + (verdict is Verdict.PASSED),
        alpha_spent_percent=round(so_far.alpha_spent_percent + own, 6),
    )

"""How much of α is spent since M_0: what an equal candidate's luck adds up to, week after week."""

from __future__ import annotations

from collections.abc import Sequence

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import Tested
from alignment_api.gates import Gate, GateResult, Verdict


def counted(before: Tested | None, gates: Sequence[GateResult], spec: AlignmentCycleSpec) -> Tested | None:
    """With the test of the iteration whose gates these are, if its win rate was judged.

    A candidate passes by the lower end of a two-sided interval, so that half of its α is the test's level. The levels
    add up, whether the tests depend on each other or not (Bonferroni's inequality).
    """
    judged = any(gate.name is Gate.WIN_RATE and gate.verdict is not Verdict.ERROR for gate in gates)
    if not judged:
        return before
    level = (100 - spec.evaluation.confidence_percent) / 2
    so_far = before or Tested(candidates=0, alpha_spent_percent=0)
    return Tested(
        candidates=so_far.candidates + 1,
        alpha_spent_percent=round(so_far.alpha_spent_percent + level, 6),
    )

"""The end of an iteration: its outcome, the history, and the one write that promotes."""

from __future__ import annotations

from datetime import datetime

from alignment_api.cycle_status import (
    AlignmentCycleStatus,
    HistoryRow,
    Iteration,
    Outcome,
    Promoted,
)
from alignment_api.stage import Located
from alignment_operator.plan import instants, lineage
from alignment_operator.plan.stage import MAX_MESSAGE

_REMEMBERED = 5


def finish(
    status: AlignmentCycleStatus,
    iteration: Iteration,
    outcome: Outcome,
    reason: str,
    message: str,
    rows: int,
    now: datetime,
) -> AlignmentCycleStatus:
    """`rows` is how much of the history is kept."""
    ended = iteration.model_copy(
        update={
            "outcome": outcome,
            "reason": str(reason),
            "message": message[:MAX_MESSAGE],
            "finished_at": instants.spell(now),
        }
    )
    row = HistoryRow(
        number=iteration.number,
        outcome=outcome,
        reason=str(reason),
        finished_at=instants.spell(now),
        candidate_digest=iteration.candidate.digest if iteration.candidate else None,
    )
    history = [row, *(old for old in status.history if old.number != row.number)][:rows]
    return status.model_copy(update={"iteration": ended, "history": history})


def promote(
    status: AlignmentCycleStatus,
    iteration: Iteration,
    candidate: Located,
    start: Promoted | None,
    keep: int,
    now: datetime,
) -> AlignmentCycleStatus:
    """The swap. It is written with the resourceVersion that it was decided from, or not at all.

    `start` is what the candidate was trained from, None for M_0. `keep`: how many promoted checkpoints are kept. A few
    more are remembered, for targets that carry them still.
    """
    promoted = Promoted(
        iteration=iteration.number,
        uri=candidate.uri,
        digest=candidate.digest,
        at=instants.spell(now),
        evidence_digest=iteration.evidence_digest,
        datasets=lineage.extended(start, iteration.datasets),
    )
    earlier = [status.promoted] if status.promoted else []
    return status.model_copy(
        update={"promoted": promoted, "promotions": [*earlier, *status.promotions][: max(keep, _REMEMBERED)]}
    )

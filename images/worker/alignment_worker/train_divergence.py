"""When a training has gone astray, by its log, and up to which step its model is sound.

The row of a step tells of the weights before it: a calm row shows that those of the step before are sound.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isfinite, nan
from statistics import median
from typing import Any

_log = logging.getLogger(__name__)

Row = Mapping[str, Any]  # of the training log

_IN_A_ROW = 3  # batches: one that is wild is no divergence
_NORMS = 100  # of calm steps, that a norm is compared with; at least a tenth of them
_EXPLODED = 100.0  # times their median
_FALLEN = 5.0  # nats a token: at 1 in 150 of what it was, each of them
_CANNED, _VARIED = 0.9, 0.5  # shares of a batch
_RATIO = "logRatio"


@dataclass(frozen=True)
class Divergence:
    """`step` shows it, `since` was the first step that was not calm."""

    step: int
    since: int
    what: str

    @property
    def last_sound(self) -> int:
        """The weights after this step were seen to be sound."""
        return self.since - 2


def tell(divergence: Divergence, kept: int) -> None:
    """Who reads the worker's log. `kept` is the step whose weights become the model."""
    _log.warning(
        "training diverged at step %d: %s; the model is that of step %d, the last sound checkpoint",
        divergence.step,
        divergence.what,
        kept,
    )


class Watch:
    """Reads a training's log row by row.

    `beta` is the method's, where there are rewards; `clip_norm` the norm that gradients are clipped to (0: they are
    not, and 1 is taken): smaller ones do no harm. With `scaled_loss` (FP16) a gradient that is not finite is the
    scaler's business.
    """

    def __init__(self, *, beta: float = 1.0, clip_norm: float = 1.0, scaled_loss: bool = False) -> None:
        self._beta = beta
        self._clip_norm = clip_norm or 1.0
        self._scaled_loss = scaled_loss
        self._norms: deque[float] = deque(maxlen=_NORMS)
        self._first: dict[str, float] = {}  # of each column
        self._suspicious: dict[int, int] = {}  # steps, with the batch that each was taken on

    @property
    def suspicious(self) -> bool:
        """Whether the newest row was not calm: no checkpoint is to be kept then."""
        return bool(self._suspicious)

    def see(self, row: Row) -> Divergence | None:
        """The newest row, with `step` and `loss`; what else it has depends on the method."""
        broken = self._broken(row)
        what = broken or self._exploded(row) or self._fallen(row) or self._canned(row)
        if not what:
            self._first = {**row, **self._ratio(row), **self._first}
            self._suspicious.clear()
            self._norms.extend(filter(isfinite, [row.get("gradientNorm", nan)]))
            return None
        if broken:
            return self.broken(row["step"], what)
        self._suspicious[row["step"]] = row.get("batch", row["step"])
        return self.broken(row["step"], what) if len(set(self._suspicious.values())) >= _IN_A_ROW else None

    def broken(self, step: int, what: str) -> Divergence:
        """The training cannot go on from that step, and some before it may have been wild already."""
        self._suspicious = self._suspicious or {step: step}
        return Divergence(step, min(self._suspicious), what)

    def _broken(self, row: Row) -> str:
        if not isfinite(row["loss"]):
            return f"the loss is {row['loss']}"
        norm = row.get("gradientNorm", 0.0)
        return f"the gradient's norm is {norm}" if not isfinite(norm) and not self._scaled_loss else ""

    def _exploded(self, row: Row) -> str:
        norm = row.get("gradientNorm", nan)
        if len(self._norms) < _NORMS // 10 or not self._clip_norm < norm < inf:
            return ""
        usual = median(self._norms)
        return (
            f"the gradient's norm is {norm:.3g} where {usual:.3g} was usual"
            if norm > _EXPLODED * usual
            else ""
        )

    def _fallen(self, row: Row) -> str:
        now = self._ratio(row).get(_RATIO, nan)
        fallen = self._first.get(_RATIO, nan) - now
        return f"the answers trained on are {fallen:.1f} nats a token less likely" if fallen > _FALLEN else ""

    def _ratio(self, row: Row) -> dict[str, float]:
        """Of the answers against the reference, nats a token; against nothing for BestOfN, which has its loss alone."""
        if "rewardChosen" in row and row.get("answerTokens"):
            return {_RATIO: row["rewardChosen"] / self._beta / row["answerTokens"]}
        return {_RATIO: -row["loss"]} if "tokenAccuracy" in row and "rewardChosen" not in row else {}

    def _canned(self, row: Row) -> str:
        """A judge may well want the same answer to most prompts: then its score rises."""
        share, first = row.get("mostFrequent", 0.0), self._first
        if share < _CANNED or first.get("mostFrequent", 1.0) > _VARIED or row["reward"] > first["reward"]:
            return ""
        return f"{share:.0%} of a batch's answers are one and the same"

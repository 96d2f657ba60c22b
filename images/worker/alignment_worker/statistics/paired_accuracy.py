"""Change of accuracy between two models on the same checkable items."""

from __future__ import annotations

from collections.abc import Sequence

from alignment_api.measurements import Measurement


def paired_accuracy(
    before: Sequence[Sequence[bool]], after: Sequence[Sequence[bool]], confidence: float, seed: int
) -> Measurement:
    """Accuracy of `after` minus accuracy of `before`, in percentage points, paired by item.

    `before` and `after`: items × samples, whether each answer is right. Sets p, discordant and lower_bound.
    """
    raise NotImplementedError

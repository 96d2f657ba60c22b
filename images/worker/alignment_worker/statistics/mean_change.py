"""Means and their changes, paired by prompt."""

from __future__ import annotations

from collections.abc import Sequence

from alignment_api.measurements import Measurement


def mean(values: Sequence[float], confidence: float) -> Measurement:
    """The mean, in the values' unit."""
    raise NotImplementedError


def mean_change(after: Sequence[float], before: Sequence[float], confidence: float, seed: int) -> Measurement:
    """Mean of `after` minus mean of `before`, paired by position, in the values' unit."""
    raise NotImplementedError

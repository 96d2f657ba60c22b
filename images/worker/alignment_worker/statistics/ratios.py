"""Ratio of lengths, shares and changes of shares, paired by prompt."""

from __future__ import annotations

from collections.abc import Sequence

from alignment_api.measurements import Measurement


def length_ratio(
    candidate_tokens: Sequence[int], incumbent_tokens: Sequence[int], confidence: float, seed: int
) -> Measurement:
    """R = sum of the candidate's tokens over sum of the incumbent's, on the same prompts."""
    raise NotImplementedError


def share(flags: Sequence[bool], confidence: float) -> Measurement:
    """Percent of the flags that are set."""
    raise NotImplementedError


def share_change(candidate: Sequence[bool], incumbent: Sequence[bool], confidence: float) -> Measurement:
    """Share of the candidate's flags minus the incumbent's on the same prompts, in percentage points."""
    raise NotImplementedError

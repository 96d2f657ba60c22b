"""Diversity across prompts: distinct n-grams and identical answers, one answer a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from alignment_api.measurements import Measurement

Answers = Sequence[Sequence[int]]  # token ids of one answer a prompt, EOS counted


def distinct_n(answers: Answers, n: int = 2) -> float | None:
    """Share of n-grams that are different from each other; None if no answer has n tokens."""
    raise NotImplementedError


def distinct2_drop(candidate: Answers, incumbent: Answers, confidence: float) -> Measurement:
    """Relative drop of distinct-2 at equal token counts, in percent; positive is worse."""
    raise NotImplementedError


def identical_change(candidate: Answers, incumbent: Answers, confidence: float) -> Measurement:
    """Change of the share of answers that equal another prompt's answer, in percentage points."""
    raise NotImplementedError

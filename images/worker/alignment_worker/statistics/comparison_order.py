"""The order in which held-out prompts are compared."""

from __future__ import annotations

from collections.abc import Sequence


def comparison_order(categories: Sequence[str], seed: int) -> list[int]:
    """Indices of the prompts in a random order of which every prefix is proportional by category."""
    raise NotImplementedError

"""The order in which held-out prompts are compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def comparison_order(categories: Sequence[str], seed: int) -> list[int]:
    """Indices of the prompts in a random order of which every prefix is proportional by category.

    Within a category the order is random; its k-th of m prompts comes at (k + u) / m of the way, u being random
    by category.
    """
    random = np.random.default_rng(seed)
    position: dict[int, float] = {}
    for category in sorted(set(categories)):
        members = [index for index, name in enumerate(categories) if name == category]
        offset = float(random.random())
        for rank, index in enumerate(random.permutation(members)):
            position[int(index)] = (rank + offset) / len(members)
    return sorted(position, key=lambda index: position[index])

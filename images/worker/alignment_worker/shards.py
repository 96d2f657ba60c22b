"""Shards: pods that each do a part of one stage, and how the parts become the whole.

STAGE/shards/INDEX/    the part of one shard, sealed as a stage is; it goes when the whole is sealed
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from alignment_api.stage import StageConfig

INDEX_VARIABLE = "JOB_COMPLETION_INDEX"  # the Job controller sets it in the pods of an Indexed Job

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """One of `count`, from 0."""

    index: int
    count: int

    def part(self, items: Sequence[T]) -> list[T]:
        """Every `count`-th item, so that parts are alike however the items are sorted."""
        return list(items[self.index :: self.count])


def mine(config: StageConfig) -> Shard | None:
    """None if the stage is not divided, or nobody said which shard this is: then one process does all of it."""
    index = os.environ.get(INDEX_VARIABLE)
    return Shard(int(index), config.shards) if config.shards > 1 and index is not None else None

"""What a pass is told beforehand, and need not read."""

from __future__ import annotations

from dataclasses import dataclass

from alignment_operator.api import Manifest
from alignment_operator.observe.jobs import JobSource


@dataclass(frozen=True)
class Known:
    """`jobs`: where to look for Jobs; None: they are listed.

    `latest`: the object as the pass just before this one left it. `has_turn`: see ObservedCycle.
    """

    jobs: JobSource | None = None
    latest: Manifest | None = None
    has_turn: bool = True

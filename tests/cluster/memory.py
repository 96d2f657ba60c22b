"""Memory limits without cgroups, whose layout and rights differ from machine to machine."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

_LOOK_SECONDS = 0.25
_COUNTED = ("RssAnon:", "RssShmem:")


async def until_over(pid: int, limit_bytes: float) -> None:
    """Return when a process and its descendants use more than the limit, page cache not counted."""
    while used_bytes(pid) <= limit_bytes:  # noqa: ASYNC110 - nobody would tell us
        await asyncio.sleep(_LOOK_SECONDS)


def used_bytes(pid: int) -> int:
    """Memory of a process and its descendants that only they use; 0 if they have ended."""
    total = 0
    # It may end while we look.
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(_COUNTED):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(used_bytes(int(child)) for child in (task / "children").read_text().split())
    return total

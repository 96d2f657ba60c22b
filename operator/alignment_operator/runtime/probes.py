"""Whether the operator lives, and whether it is ready, as kubelet asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from alignment_operator.runtime.hearing import Hearing
from alignment_operator.runtime.work_queue import WorkQueue

# Watches are renewed within 90 s of silence, and every call ends within 30 s: whoever is still after this is stuck.
STILL_SECONDS = 600.0


@dataclass(frozen=True)
class Probes:
    """`unsynced` names what has not been listed yet."""

    hearings: Callable[[], Sequence[tuple[str, Hearing]]]
    queue: WorkQueue[Any]
    unsynced: Callable[[], Sequence[str]]
    still_seconds: float = STILL_SECONDS

    async def healthz(self, _: web.Request) -> web.Response:
        """503 if a watch has died in silence or a pass is stuck: only starting anew helps."""
        problems = [
            f"nothing was heard of {name} for {hearing.still_seconds:.0f} s, not even that its watch failed"
            for name, hearing in self.hearings()
            if hearing.still_seconds > self.still_seconds
        ]
        # Before the caches are there, nothing is worked on, for a reason that readyz tells.
        if not self.unsynced() and (oldest := self.queue.oldest_seconds()) > self.still_seconds:
            problems.append(f"an object has waited for a pass, or a pass has lasted, for {oldest:.0f} s")
        return _said(problems)

    async def readyz(self, _: web.Request) -> web.Response:
        """503 until everything has been listed once."""
        return _said([f"{name} were not listed yet" for name in self.unsynced()])


def _said(problems: Sequence[str]) -> web.Response:
    text = "\n".join(problems) or "ok"
    return web.Response(text=f"{text}\n", status=503 if problems else 200)

"""When the API server was last heard, resource by resource: how a watch that died in silence is noticed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Hearing:
    """Of one watch. `heard`: the server said something. `tried`: at least the watch was found broken and begun anew.

    A server that is away for an hour is no reason to start the operator anew; a watch that neither hears nor fails is.
    """

    heard_at: float = field(default_factory=time.time)  # seconds since 1970
    _turned: float = field(default_factory=time.monotonic)

    def heard(self) -> None:
        self.heard_at = time.time()
        self._turned = time.monotonic()

    def tried(self) -> None:
        self._turned = time.monotonic()

    @property
    def still_seconds(self) -> float:
        """Since when nothing at all has happened."""
        return time.monotonic() - self._turned

"""Which folder stands for a claim, `pvc://NAME/…`, where there is no cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from alignment_api import uris


class Claims:
    """`given` by the user; else a folder of that name beside a manifest; else one in the state folder."""

    def __init__(self, given: Mapping[str, Path], beside: Iterable[Path], state: Path) -> None:
        self._given = dict(given)
        self._beside = tuple(beside)
        self._state = state

    def folder(self, claim: str) -> Path:
        """Absolute; it is made if nobody gave it. Raises OSError."""
        if claim in self._given:
            return self._given[claim].resolve()
        for parent in self._beside:
            if (parent / claim).is_dir():
                return (parent / claim).resolve()
        made = self._state / "claims" / claim
        made.mkdir(parents=True, exist_ok=True)
        return made.resolve()

    def path(self, uri: str) -> Path:
        """Where a URI of any form is on this machine. Raises ValueError, OSError."""
        location = uris.parse(uri)
        return self.folder(location.claim) / location.path if location.claim else Path(location.path)

"""Which folder stands for a claim, `pvc://NAME/…`, where there is no cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

from alignment_api import uris
from alignment_operator.local.files import read_json, write_json

_REMEMBERED = "claims.json"  # in the state folder: by name, for commands that are given no manifest


class Claims:
    """`given` by the user; else a folder of that name beside a manifest; else one in the state folder."""

    def __init__(self, given: Mapping[str, Path], beside: Iterable[Path], state: Path) -> None:
        self._given = dict(given)
        self._beside = tuple(beside)
        self._state = state

    def folder(self, claim: str) -> Path:
        """Absolute; it is made if nobody gave it. Raises OSError."""
        folder = self._chosen(claim)
        folder.mkdir(parents=True, exist_ok=True)
        return folder.resolve()

    def path(self, uri: str) -> Path:
        """Where a URI of any form is on this machine; it need not be there. Raises ValueError."""
        location = uris.parse(uri)
        return (
            self._chosen(location.claim).resolve() / location.path if location.claim else Path(location.path)
        )

    def remember(self, names: Iterable[str]) -> None:
        """For `recalled`: where these claims are, but for those in the state folder itself, which may be moved.

        Raises OSError, CorruptFileError.
        """
        file = self._state / _REMEMBERED
        there = read_json(file) or {}
        known = dict(there)
        for name in names:
            folder = self._chosen(name)
            known.pop(name, None)
            if folder != self._within(name):
                known[name] = str(folder.resolve())
        if known != there:
            write_json(file, known)

    @classmethod
    def recalled(cls, given: Mapping[str, Path], state: Path) -> Self:
        """As the last run on that folder had them, but for those that are given. Raises OSError, CorruptFileError."""
        known = {name: Path(folder) for name, folder in (read_json(state / _REMEMBERED) or {}).items()}
        return cls({**known, **given}, (), state)

    def _chosen(self, claim: str) -> Path:
        if claim in self._given:
            return self._given[claim]
        beside = (parent / claim for parent in self._beside)
        return next((folder for folder in beside if folder.is_dir()), self._within(claim))

    def _within(self, claim: str) -> Path:
        return self._state / "claims" / claim

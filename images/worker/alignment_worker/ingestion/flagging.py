"""Which answers the filter flags: of open pairs, and of the rows that stay. What a revision has scored is not scored
again: its scores lie in what is derived of its run, with the digest of the model in the file's name.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from alignment_api import digests
from alignment_api.stage import IngestParameters
from alignment_worker import rows
from alignment_worker.ingestion import quality
from alignment_worker.ingestion.deciding import FILTERED, NEW
from alignment_worker.ingestion.identity import KEY_BYTES
from alignment_worker.ingestion.ordinals import Numbers
from alignment_worker.ingestion.quality import ROLE, Answered
from alignment_worker.ingestion.staging import Staging, as_line
from alignment_worker.store import DERIVED, SealedFolder
from alignment_worker.workspace import Workspace

FLAGGED = "flagged.jsonl"  # of the rows that stay, those whose answer is flagged
_ROWS_AT_ONCE = 512
_log = logging.getLogger(__name__)
_SCORED = np.dtype([("key", f"S{KEY_BYTES}"), ("score", "<f8")])  # not a number: the model cannot read it
Row = dict[str, Any]


class Quality:
    """Of one refresh. Raises InvalidModelError, InvalidConfigError, OSError."""

    def __init__(self, workspace: Workspace, staging: Staging) -> None:
        parameters = workspace.config.parameters
        assert isinstance(parameters, IngestParameters)
        assert parameters.filter is not None
        self._workspace = workspace
        self._staging = staging
        self._limit = parameters.filter.flag_below
        self.drops = parameters.filter.action == "Drop"
        self._scorer = quality.scorer(workspace.inputs.path(ROLE), self._limit)
        self._file = f"filter-{digests.short(workspace.inputs.digests[ROLE])}.npy"
        self._known = self._recalled()
        self._scores: dict[bytes, float] = {}
        self._of_rows: Any = np.empty(0)

    def flags(self, answered: Sequence[Answered]) -> list[bool]:
        """Of answers to prompts; what the model cannot read is not flagged."""
        return [score < self._limit for score in self._scored(answered)]

    def mark(self, codes: Numbers) -> None:
        """Scores the rows that stay so far, and with Drop marks those that are flagged."""
        self._of_rows = np.full(self._staging.count, nan)
        stay = codes >= NEW
        self._workspace.progress.begin(int(stay.sum()), "rows", "filtering")
        for places, some in self._staging.loaded(stay, _ROWS_AT_ONCE):
            held = [
                (place, answer)
                for place, row in zip(places.tolist(), some, strict=True)
                if (answer := _held_up(row)) is not None
            ]
            scores = self._scored([answer for _, answer in held])
            self._of_rows[[place for place, _ in held]] = scores
            self._workspace.progress.advance(len(places))
        if self.drops:
            codes[stay & (self._of_rows < self._limit)] = FILTERED

    def said_of(self, row: int) -> str:
        """Why it is left out."""
        return f"the filter gives its answer {self._of_rows[row]:.3g}, below {self._limit:g}"

    def write(self, codes: Numbers) -> dict[str, int]:
        """The rows that stay although they are flagged, and the scores for the next refresh; the counts of both."""
        folder = self._workspace.run_folder
        (folder / DERIVED).mkdir(exist_ok=True)
        kept = np.array(sorted(self._scores.items()), _SCORED)
        np.save(folder / DERIVED / self._file, kept, allow_pickle=False)
        flagged = (codes > 0) & (self._of_rows < self._limit)
        with (folder / FLAGGED).open("wb") as file:
            for places, some in self._staging.loaded(flagged, _ROWS_AT_ONCE):
                for place, row in zip(places.tolist(), some, strict=True):
                    # The last digits differ from machine to machine.
                    score = float(f"{self._of_rows[place]:.3g}")
                    file.write(as_line({"ordinal": int(codes[place]), "score": score, **row}))
        unread = sum(map(isnan, self._scores.values()))
        return {"flagged": int(flagged.sum()), "filterUnread": unread}

    def _scored(self, answered: Sequence[Answered]) -> list[float]:
        keys = [_key(*each) for each in answered]
        for key in keys:
            if key in self._known:
                self._scores[key] = self._known[key]
        new = {key: each for key, each in zip(keys, answered, strict=True) if key not in self._scores}
        found = self._scorer.scores(list(new.values())) if new else []
        self._scores |= {key: nan if score is None else score for key, score in zip(new, found, strict=True)}
        return [self._scores[key] for key in keys]

    def _recalled(self) -> dict[bytes, float]:
        if "base" not in self._workspace.inputs:
            return {}
        file: Path = SealedFolder.open(self._workspace.inputs.path("base")).file(DERIVED) / self._file
        if not file.is_file():
            return {}
        try:
            known = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:  # derived: what it had is scored anew
            _log.warning("%s cannot be read; answers are scored anew: %s", file, error)
            return {}
        return {
            _padded(key): score
            for key, score in zip(known["key"].tolist(), known["score"].tolist(), strict=True)
        }


def _held_up(row: Row) -> Answered | None:
    """The answer that the row calls better or good; that a bad one is bad is what it is there for."""
    if "chosen" in row:
        return _answered(row["prompt"], row["chosen"])
    return _answered(row["prompt"], row["completion"]) if row["label"] else None


def _answered(prompt: rows.Prompt, answer: rows.Prompt) -> Answered:
    if isinstance(answer, str):
        return prompt, answer
    assert not isinstance(prompt, str)  # rows.pair_of refuses messages behind a string
    return [*prompt, *answer[:-1]], answer[-1]["content"]


def _key(prompt: rows.Prompt, answer: str) -> bytes:
    said = json.dumps([prompt, answer]).encode()
    return hashlib.blake2b(said, digest_size=KEY_BYTES).digest()


def _padded(key: bytes) -> bytes:
    """NumPy drops NULs at the end."""
    return key.ljust(KEY_BYTES, b"\0")

"""The rows that stay, embedded: prompt and answers. What the revision in force has embedded is taken from there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from alignment_worker import rows
from alignment_worker.embedding import ROLE, Embedder
from alignment_worker.ingestion import nearness, vectors
from alignment_worker.ingestion.deciding import NEW
from alignment_worker.ingestion.identity import KEY_BYTES, prompt_key
from alignment_worker.ingestion.ordinals import Keys, Numbers
from alignment_worker.ingestion.staging import Staging
from alignment_worker.store import DERIVED, SealedFolder
from alignment_worker.workspace import Workspace

_ROWS_AT_ONCE = 2048
_FIGURES = re.compile(r"\d+")
Row = dict[str, Any]


@dataclass
class Embedded:
    """`fill` embeds, `write` makes the table of it; both raise OSError. Raises InvalidModelError."""

    workspace: Workspace
    staging: Staging
    folder: Path
    embedder: Embedder = field(init=False)
    _vectors: Any = field(init=False)
    _done: Any = field(init=False)
    _whole: Any = field(init=False)
    _keys: Any = field(init=False)

    def __post_init__(self) -> None:
        self.embedder = Embedder(self.workspace.inputs.path(ROLE))
        # On disk, which holds no array of nothing: a log that nobody judged has no rows.
        shape = (max(1, self.staging.count), len(vectors.VECTORS), self.embedder.dimensions)
        self._vectors = np.memmap(self.folder / "vectors", np.float16, "w+", shape=shape)
        self._done, self._whole = np.zeros((2, self.staging.count), bool)
        keys = [records["key"] for _, records in self.staging.records()]
        self._keys = np.concatenate([np.empty(0, f"S{KEY_BYTES}"), *keys])

    @property
    def model(self) -> str:
        """The digest of what embeds."""
        return self.workspace.inputs.digests[ROLE]

    def asked(self) -> Iterator[tuple[Keys, Numbers]]:
        """Of the embedded rows the keys of their prompts, and these vectors, float16."""
        for places, some in self.staging.loaded(self._done, _ROWS_AT_ONCE):
            keys = np.array([prompt_key(row["prompt"]) for row in some], f"S{KEY_BYTES}")
            yield keys, self._vectors[places, nearness.PROMPT]

    def fill(self, codes: Numbers, least_percent: float | None) -> None:
        """Embeds the rows that stay so far; with `least_percent`, marks the near-duplicates among them."""
        self._recall(codes)
        self._embed(codes)
        if least_percent is not None:
            self.workspace.progress.begin(1, "steps", "looking for near-duplicates")
            nearness.mark(codes, self._vectors, self._traits(codes), least_percent)

    def prompts(self, codes: Numbers) -> Iterator[tuple[Numbers, list[Row], Numbers]]:
        """Of some rows that stay in the end: their places, what they say, and their prompts' vectors, float32."""
        for places, some in self.staging.loaded(codes > 0, _ROWS_AT_ONCE):
            yield places, some, np.asarray(self._vectors[places, nearness.PROMPT], np.float32)

    def write(self, codes: Numbers) -> None:
        """With the ordinals that rows have in the end; no table of no rows."""
        if not self._done.any():
            return
        vectors.write(
            self.workspace.run_folder / DERIVED, self._batches(codes), self._vectors.shape[2], self.model
        )

    def _recall(self, codes: Numbers) -> None:
        if "base" not in self.workspace.inputs:
            return
        wanted = np.flatnonzero(codes >= NEW)
        if not len(wanted):
            return
        wanted = wanted[np.argsort(self._keys[wanted])]
        keys = self._keys[wanted]
        base = SealedFolder.open(self.workspace.inputs.path("base"))
        for known, whole, found in vectors.read(base.file(DERIVED), self.model):
            places = np.minimum(np.searchsorted(keys, known), len(keys) - 1)
            there = keys[places] == known
            rows_there = wanted[places[there]]
            self._vectors[rows_there], self._whole[rows_there] = found[there], whole[there]
            self._done[rows_there] = True

    def _embed(self, codes: Numbers) -> None:
        missing = (codes >= NEW) & ~self._done
        self.workspace.progress.begin(int(missing.sum()), "rows", "embedding")
        for places, some in self.staging.loaded(missing, _ROWS_AT_ONCE):
            texts = [text for row in some for text in _texts(row)]
            unique = {text: index for index, text in enumerate(dict.fromkeys(text for text in texts if text))}
            found, whole = (each.numpy() for each in self.embedder.measured(list(unique)))
            found = np.concatenate([found, np.zeros_like(found[:1])])  # the last one is of no text
            whole = np.append(whole, True)
            indices = np.array([unique.get(text, -1) for text in texts]).reshape(len(places), -1)
            self._vectors[places], self._whole[places] = found[indices], whole[indices].all(axis=1)
            self._done[places] = True
            self.workspace.progress.advance(len(places))

    def _traits(self, codes: Numbers) -> Numbers:
        traits = np.zeros(self.staging.count, np.uint64)
        for places, some in self.staging.loaded(codes >= NEW, _ROWS_AT_ONCE):
            traits[places] = [_trait(row) for row in some]
        unread = np.flatnonzero(~self._whole)  # what two of them say further on may differ
        traits[unread] += np.arange(1, len(unread) + 1, dtype=np.uint64)
        return traits

    def _batches(self, codes: Numbers) -> Iterator[pyarrow.RecordBatch]:
        for places, some in self.staging.loaded(self._done, _ROWS_AT_ONCE):
            yield vectors.batch(
                np.maximum(codes[places], 0),
                self._keys[places],
                [row["source"] for row in some],
                [rows.said(row["prompt"]) for row in some],
                self._whole[places],
                self._vectors[places],
            )


def _texts(row: Row) -> list[str]:
    """Prompt, chosen or only answer, rejected one or nothing."""
    answers = (row["chosen"], row["rejected"]) if "chosen" in row else (row["completion"], "")
    return [rows.said(text) for text in (row["prompt"], *answers)]


def _trait(row: Row) -> int:
    """The same of two rows only if they are of one kind, with one label, one system's message and the same figures."""
    system = [each["content"] for each in row["prompt"] if each["role"] == "system"] if _chat(row) else []
    said = json.dumps(["chosen" in row, row.get("label"), system, *map(_FIGURES.findall, _texts(row))])
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest())


def _chat(row: Row) -> bool:
    return not isinstance(row["prompt"], str)

"""The prompts of a revision, embedded and in clusters. What is embedded already is not embedded again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alignment_worker import rows
from alignment_worker.ingestion import clusters, vectors
from alignment_worker.ingestion.embedded import Embedded
from alignment_worker.ingestion.identity import KEY_BYTES, prompt_key
from alignment_worker.ingestion.ordinals import Keys, Numbers
from alignment_worker.store import DERIVED, SealedFolder
from alignment_worker.workspace import Workspace

_AT_ONCE = 2048


def write(workspace: Workspace, embedded: Embedded, file: Path, count: int, folder: Path) -> None:
    """The table of the file's prompts, of which there are so many. `folder` is for what is not kept.

    Raises InvalidModelError, OSError.
    """
    keys = np.concatenate(
        [np.array([prompt_key(prompt) for prompt in some], f"S{KEY_BYTES}") for some in _prompts(file)]
    )
    found: Any = np.memmap(
        folder / "prompt-vectors", np.float16, "w+", shape=(count, embedded.embedder.dimensions)
    )
    missing = np.ones(count, bool)
    order = np.argsort(keys)
    for there, known in _known(workspace, embedded):
        places = order[np.minimum(np.searchsorted(keys, there, sorter=order), count - 1)]
        same = keys[places] == there
        found[places[same]] = known[same]
        missing[places[same]] = False
    _embed(workspace, embedded, file, missing, found)
    workspace.progress.begin(1, "steps", "clustering prompts")
    numbers = clusters.of(found)
    batches = (
        vectors.prompts_batch(
            keys[start : start + _AT_ONCE], found[start : start + _AT_ONCE], numbers[start : start + _AT_ONCE]
        )
        for start in range(0, count, _AT_ONCE)
    )
    vectors.write_prompts(workspace.run_folder / DERIVED, batches, found.shape[1], embedded.model)


def _known(workspace: Workspace, embedded: Embedded) -> Iterator[tuple[Keys, Numbers]]:
    if "base" in workspace.inputs:
        base = SealedFolder.open(workspace.inputs.path("base"))
        yield from vectors.read_prompts(base.file(DERIVED), embedded.model)
    yield from embedded.asked()


def _embed(workspace: Workspace, embedded: Embedded, file: Path, missing: Numbers, found: Any) -> None:
    workspace.progress.begin(int(missing.sum()), "prompts", "embedding")
    start = 0
    for some in _prompts(file):
        places = start + np.flatnonzero(missing[start : start + len(some)])
        if len(places):
            texts = [rows.said(some[place - start]) for place in places.tolist()]
            found[places] = embedded.embedder.of(texts, workspace.progress).numpy()
        start += len(some)


def _prompts(file: Path) -> Iterator[list[rows.Prompt]]:
    some: list[rows.Prompt] = []
    with file.open("rb") as lines:
        for line in lines:
            some.append(json.loads(line)["prompt"])
            if len(some) == _AT_ONCE:
                yield some
                some = []
    if some:
        yield some

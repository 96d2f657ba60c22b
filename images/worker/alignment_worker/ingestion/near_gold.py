"""Flags rows whose prompt is alike to a gold one, by embedding; none is left out for it, for alike is not the same.

Makes near-gold.jsonl in what is derived of the run, in the order of reading: `percent`, `ordinal`, `source`, `file`,
`line`, `prompt`, and of the nearest gold prompt `goldSet` (its number in the spec, from 0), `goldLine`, `goldPrompt`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from alignment_api.stage import InputKind
from alignment_worker import rows
from alignment_worker.ingestion.ordinals import Numbers
from alignment_worker.store import DERIVED
from alignment_worker.workspace import Workspace

if TYPE_CHECKING:
    from alignment_worker.ingestion.embedded import Embedded

NEAR_GOLD = "near-gold.jsonl"
_CHARACTERS = 2000  # of a prompt in the file
_AGAINST = 4096  # gold prompts of a block


@dataclass(frozen=True)
class _Gold:
    number: int
    line: int
    said: str


def flag(workspace: Workspace, embedded: Embedded, codes: Numbers, least_percent: float) -> int:
    """How many of the rows that stay are alike to a gold prompt.

    `least_percent`: 100 times the cosine from which two prompts count as alike. Raises InvalidRowError, OSError.
    """
    gold = [
        _Gold(number, row.number, rows.said(row.prompt))
        for number, role in enumerate(workspace.inputs.roles("goldSet"))
        for row in rows.read(workspace.inputs.path(role), InputKind.PROMPTS)
    ]
    folder = workspace.run_folder / DERIVED
    folder.mkdir(exist_ok=True)
    workspace.progress.begin(int((codes > 0).sum()), "rows", "comparing with gold prompts")
    return rows.write(
        folder / NEAR_GOLD, _near(embedded, codes, gold, least_percent / 100, workspace.progress.advance)
    )


def _near(
    embedded: Embedded, codes: Numbers, gold: list[_Gold], least: float, advance: Any
) -> Iterator[dict[str, Any]]:
    targets = embedded.embedder.of([each.said for each in gold]).numpy()
    for places, some, vectors in embedded.prompts(codes):
        nearest, cosines = _nearest(vectors, targets)
        for index in np.flatnonzero(cosines >= least):
            yield _row(int(codes[places[index]]), some[index], gold[nearest[index]], float(cosines[index]))
        advance(len(places))


def _nearest(vectors: Numbers, targets: Numbers) -> tuple[Numbers, Numbers]:
    """Of each vector the target that is most alike, and the cosine."""
    nearest, best = np.zeros(len(vectors), np.int64), np.full(len(vectors), -2.0, np.float32)
    for start in range(0, len(targets), _AGAINST):
        cosines = vectors @ targets[start : start + _AGAINST].T
        found = cosines.argmax(axis=1)
        there = cosines[np.arange(len(vectors)), found]
        better = there > best
        nearest[better], best[better] = start + found[better], there[better]
    return nearest, best


def _row(ordinal: int, row: dict[str, Any], near: _Gold, cosine: float) -> dict[str, Any]:
    return {
        "percent": round(100 * cosine, 1),
        "ordinal": ordinal,
        **{name: row[name] for name in ("source", "file", "line")},
        "prompt": rows.said(row["prompt"])[:_CHARACTERS],
        "goldSet": near.number,
        "goldLine": near.line,
        "goldPrompt": near.said[:_CHARACTERS],
    }

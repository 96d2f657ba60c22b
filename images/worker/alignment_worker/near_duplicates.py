"""Flags prompts of training that resemble gold or held-out prompts, by embeddings; nothing is left out for it.

Similar are two of which the embeddings' cosine is large. Makes near-duplicates.jsonl, the most alike first: `percent`,
`source`, `line`, `prompt`, and of the nearest prompt that is measured on `measuredOn`, `measuredLine`,
`measuredPrompt`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alignment_api.stage import InputKind
from alignment_worker import dataset_prompts, embedding, exclusion, rows
from alignment_worker.artifacts import NEAR_DUPLICATES, PAIRS
from alignment_worker.embedding import ROLE
from alignment_worker.rows import Preference, Row
from alignment_worker.workspace import Workspace

_KEPT = 100  # rows of the file
_AT_ONCE = 1024
_CHARACTERS = 2000  # of a prompt in the file


@dataclass(frozen=True)
class _Text:
    """A prompt: whose file, and where in it. Equal ones count once a source."""

    source: str
    line: int
    said: str


def flag(workspace: Workspace, least_percent: float) -> dict[str, int]:
    """Counts of what is near, and of what was looked at: prompts, and prompts of datasets.

    `least_percent`: 100 times the cosine from which two prompts count as near.
    Raises InvalidModelError, InvalidRowError.
    """
    inputs = workspace.inputs
    measured = [
        _Text(role, row.number, rows.said(row.prompt))
        for role, kind in (("goldSet", InputKind.GOLD_SET), ("heldOutPrompts", InputKind.PROMPTS))
        for row in rows.read(inputs.path(role), kind)
    ]
    looked_at = list(_looked_at(workspace))
    embedder = embedding.Embedder(inputs.path(ROLE))
    workspace.progress.begin(len(measured) + len(looked_at), "prompts", "looking for near-duplicates")
    targets = embedder.of([text.said for text in measured], workspace.progress)
    found: list[dict[str, Any]] = []
    for start in range(0, len(looked_at), _AT_ONCE):
        some = looked_at[start : start + _AT_ONCE]
        nearest = (embedder.of([text.said for text in some], workspace.progress) @ targets.T).max(dim=1)
        for text, cosine, index in zip(some, nearest.values.tolist(), nearest.indices.tolist(), strict=True):
            if 100 * cosine >= least_percent:
                found.append(_row(text, measured[index], cosine))
    found.sort(key=lambda row: -row["percent"])
    rows.write(workspace.run_folder / NEAR_DUPLICATES, found[:_KEPT])
    return {
        "nearPrompts": sum(row["source"] == "prompts" for row in found),
        "nearPromptsGiven": sum(text.source == "prompts" for text in looked_at),
        "nearRows": sum(row["source"] != "prompts" for row in found),
        "nearRowsGiven": sum(text.source != "prompts" for text in looked_at),
    }


def _looked_at(workspace: Workspace) -> Iterator[_Text]:
    """What the exact rules let through."""
    inputs = workspace.inputs
    forbidden = exclusion.forbidden(inputs)
    sources: dict[str, Sequence[Row | Preference]] = {}
    if "prompts" in inputs:
        sources["prompts"] = rows.read(inputs.path("prompts"), inputs.kinds["prompts"])
    if dataset_prompts.given(inputs):
        sources["prompts"] = list(dataset_prompts.each(inputs))
    sources |= {
        role: list(rows.read_preferences(inputs.file(role, PAIRS))) for role in inputs.roles("dataset")
    }
    for source, there in sources.items():
        seen = set()
        for row, use in zip(there, exclusion.allowed(there, forbidden), strict=True):
            said = rows.said(row.prompt)
            if use and said not in seen:
                seen.add(said)
                yield _Text(source, row.number, said)


def _row(text: _Text, near: _Text, cosine: float) -> dict[str, Any]:
    return {
        "percent": round(100 * cosine, 1),
        "source": text.source,
        "line": text.line,
        "prompt": text.said[:_CHARACTERS],
        "measuredOn": near.source,
        "measuredLine": near.line,
        "measuredPrompt": near.said[:_CHARACTERS],
    }

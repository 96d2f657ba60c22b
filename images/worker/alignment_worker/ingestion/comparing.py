"""In what two revisions of a dataset differ: which rows came and which went, by their ordinals."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from alignment_api import digests
from alignment_api.iteration_report import Diff, DiffConfig, RowExample
from alignment_api.stage import Located
from alignment_worker import rows
from alignment_worker.artifacts import PAIRS
from alignment_worker.failures import DigestMismatchError, InputMissingError, InvalidConfigError
from alignment_worker.ingestion.ordinals import Numbers
from alignment_worker.store import MANIFEST, Places, SealedFolder

START = b'{"ordinal":'  # of every line of a revision
_CHARACTERS = 200


def diff(config: DiffConfig, places: Places) -> Diff:
    """Raises InputMissingError, DigestMismatchError, InvalidConfigError, StoreConflictError."""
    one, other = (opened(located, places) for located in (config.first, config.second))
    paths = [pairs_of(folder) for folder in (one, other)]
    before, after = (np.fromiter(_ordinals(path), np.int64) for path in paths)
    went, examples_went = _shown(paths[0], ~np.isin(before, after), config.examples)
    came, examples_came = _shown(paths[1], ~np.isin(after, before), config.examples)
    return Diff(
        first=one.counts,
        second=other.counts,
        both=len(after) - sum(came.values()),
        came=dict(came),
        went=dict(went),
        examples_came=examples_came,
        examples_went=examples_went,
    )


def opened(located: Located, places: Places) -> SealedFolder:
    path = places.path(located.uri)
    try:
        folder = SealedFolder.open(path)
        found = digests.of_file(path / MANIFEST)
    except OSError as error:
        raise InputMissingError(f"{located.uri} ({path}) cannot be read: {error.strerror}") from error
    if found != located.digest:
        raise DigestMismatchError(f"{located.uri} has digest {found}, but it was {located.digest}")
    return folder


def pairs_of(folder: SealedFolder) -> Path:
    try:
        return folder.verified(PAIRS)
    except OSError as error:
        raise InputMissingError(f"{folder.file(PAIRS)} cannot be read: {error.strerror}") from error


def _ordinals(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        for line in file:
            if not line.startswith(START):
                raise InvalidConfigError(f"{path}: its rows have no ordinals: an older worker made it")
            yield int(line[len(START) : line.index(b",")])


def _shown(path: Path, differs: Numbers, most: int) -> tuple[Counter[str], list[RowExample]]:
    """How many rows by source, and the first of them."""
    counts: Counter[str] = Counter()
    examples: list[RowExample] = []
    with path.open("rb") as file:
        for line, chosen in zip(file, differs, strict=True):
            if chosen:
                row = json.loads(line)
                counts[row["source"]] += 1
                if len(examples) < most:
                    examples.append(example_of(row))
    return counts, examples


def example_of(row: dict[str, Any]) -> RowExample:
    is_pair = "chosen" in row
    label = "" if is_pair else f" (label {str(row['label']).lower()})"
    return RowExample(
        ordinal=row["ordinal"],
        source=row["source"],
        file=row["file"],
        line=row["line"],
        prompt=_shortened(row["prompt"]),
        said=_shortened(row["chosen" if is_pair else "completion"]) + label,
        against=_shortened(row["rejected"]) if is_pair else "",
    )


def _shortened(text: rows.Prompt) -> str:
    said = " ".join(rows.said(text).split())
    return said if len(said) <= _CHARACTERS else said[: _CHARACTERS - 1] + "…"

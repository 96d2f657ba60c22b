"""Rows of gold sets and held-out prompts on this machine, as far as they can be judged without the worker.

Whatever is refused here the first stage would refuse too; it looks closer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.stage import InputKind
from alignment_api.validation import Problem
from alignment_operator.local.claims import Claims
from alignment_operator.plan import pipeline

_READ = {"goldSet": "spec.evaluation.goldSet.uri", "heldOutPrompts": "spec.evaluation.heldOutPrompts.uri"}
_COLUMNS = {
    InputKind.PROMPTS: ("prompt",),
    InputKind.CHECKABLE_PROMPTS: ("prompt", "answer", "grader"),
    InputKind.GOLD_SET: ("prompt", "answer", "grader", "category"),
}


@dataclass(frozen=True)
class Row:
    """A line of JSON Lines; `problem` if it is no object."""

    number: int
    columns: dict[str, Any]
    problem: str = ""


def read(uri: str, places: Claims) -> list[Row] | None:
    """None if the file is not here, or no JSON Lines."""
    path = places.path(uri)
    if path.suffix != ".jsonl":
        return None
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return None
    return [_row(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def problems(spec: AlignmentCycleSpec, places: Claims) -> Iterator[Problem]:
    """Of the rows, and of how many there are."""
    named = pipeline.named_inputs(spec, None)
    for role, field in _READ.items():
        uri, kind = named[role]
        rows = read(uri, places)
        if rows is None:
            continue
        path = places.path(uri)
        yield from (Problem(field, uri, message) for message in _of_rows(path, rows, _COLUMNS[kind]))
        least = pipeline.least_held_out(spec)
        if role == "heldOutPrompts" and 0 < len(rows) < least:
            yield Problem(
                "spec.evaluation.comparison.minComparisons",
                str(least),
                f"{path} has {len(rows)} prompts, and each is compared once. Add held-out prompts, or lower "
                "minComparisons",
            )


def _of_rows(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> Iterator[str]:
    """Each kind of fault once, with its first line."""
    if not rows:
        yield f"{path}: holds no rows; give at least one prompt"
    lines: dict[str, list[int]] = {}
    for row in rows:
        if fault := row.problem or _missing(row, columns):
            lines.setdefault(fault, []).append(row.number)
    for fault, numbers in lines.items():
        further = f" (rows like it: {len(numbers)})" if len(numbers) > 1 else ""
        yield f"{path}: line {numbers[0]}: {fault}{further}"


def _missing(row: Row, columns: Sequence[str]) -> str:
    missing = [f"`{name}`" for name in columns if row.columns.get(name) is None]
    needed = ", ".join(f"`{name}`" for name in columns)
    verb = "is" if len(missing) == 1 else "are"
    return f"{' and '.join(missing)} {verb} missing; each row needs {needed}" if missing else ""


def _row(number: int, line: bytes) -> Row:
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError:
        return Row(number, {}, "is not UTF-8; save the file as UTF-8")
    except (ValueError, RecursionError) as error:
        return Row(number, {}, f"is not JSON ({error}); give one object a line")
    if not isinstance(value, dict):
        return Row(number, {}, "is not an object; give one object a line")
    return Row(number, value)

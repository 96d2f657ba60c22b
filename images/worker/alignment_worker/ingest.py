"""The stage `ingest`: pairs from a dataset's sources, as one immutable revision.

Makes pairs.jsonl (`prompt`, `chosen`, `rejected`, `source`, `line`) and invalid.jsonl (`source`, `line`, `problem`): a
row that is no pair is set aside with the reason, and counted. The same input gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from alignment_api.stage import IngestParameters
from alignment_worker import rows
from alignment_worker.artifacts import PAIRS
from alignment_worker.failures import InvalidConfigError, TooFewPairsError
from alignment_worker.rows import Pair, Raw, RowProblemError
from alignment_worker.store import Outcome
from alignment_worker.workspace import Workspace

_SAMPLED = ("prompt_ids", "chosen_ids", "rejected_ids")  # of our own stages, and nobody else's
_ROWS_BETWEEN_REPORTS = 500


def run(workspace: Workspace) -> Outcome:
    """Raises WorkerError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, IngestParameters)
    sources = sorted(workspace.inputs.roles("source"))
    if not sources:
        raise InvalidConfigError("inputs: name no source/NAME; give at least one")
    counts = {"read": 0, "kept": 0, "invalid": 0}
    first_problem = ""
    with (
        (workspace.run_folder / PAIRS).open("w", encoding="utf-8") as kept,
        (workspace.run_folder / "invalid.jsonl").open("w", encoding="utf-8") as invalid,
    ):
        for role in sources:
            name, path = role.removeprefix("source/"), workspace.inputs.path(role)
            workspace.progress.begin(path.stat().st_size, "bytes", f"reading {name}")
            for raw, pair in _pairs(path, parameters.columns.get(name, {})):
                counts["read"] += 1
                if isinstance(pair, Pair):
                    counts["kept"] += 1
                    _append(kept, _pair_row(name, pair))
                else:
                    counts["invalid"] += 1
                    first_problem = first_problem or f"{path}: {rows.where(path)} {raw.number}: {pair}"
                    _append(invalid, {"source": name, "line": raw.number, "problem": str(pair)})
                if counts["read"] % _ROWS_BETWEEN_REPORTS == 0:
                    workspace.progress.reach(min(kept.tell() + invalid.tell(), path.stat().st_size))
    if not counts["kept"]:
        raise TooFewPairsError(
            f"none of the {counts['read']} rows is a pair; the first problem: {first_problem}"
            if counts["read"]
            else f"{', '.join(str(workspace.inputs.path(role)) for role in sources)}: no rows; give at least one pair"
        )
    return Outcome(counts=counts)


def renamed(raw: Raw, columns: Mapping[str, str]) -> Raw:
    """The row's pair, columns renamed, source name first; a rename beats a column that has the name already."""
    if raw.columns is None:
        return raw
    kept = {name: value for name, value in raw.columns.items() if name not in (*_SAMPLED, *columns)}
    taken = {target: raw.columns[name] for name, target in columns.items() if name in raw.columns}
    return replace(raw, columns=kept | taken)


def _pairs(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[Raw, Pair | RowProblemError]]:
    for raw in rows.raw_rows(path):
        try:
            yield raw, rows.pair_of(renamed(raw, columns))
        except RowProblemError as problem:
            yield raw, problem


def _pair_row(source: str, pair: Pair) -> dict[str, Any]:
    return {
        "prompt": pair.prompt,
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "source": source,
        "line": pair.number,
    }


def _append(file: Any, value: Mapping[str, Any]) -> None:
    file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")

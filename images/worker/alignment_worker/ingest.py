"""The stage `ingest`: pairs and unpaired rows from a dataset's sources, as one immutable revision.

Makes pairs.jsonl (`prompt`, then `chosen` and `rejected`, or of an unpaired row `completion` and `label`; `source`,
`line`) and invalid.jsonl (`source`, `line`, `problem`): a row that is neither, or not of its file's kind, is set aside
with the reason, and counted. The same input gives the same bytes.
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
from alignment_worker.rows import Pair, Preference, Raw, RowProblemError, Unpaired
from alignment_worker.store import Outcome
from alignment_worker.workspace import Workspace

_SAMPLED = ("prompt_ids", "chosen_ids", "rejected_ids")  # of our own stages, and nobody else's
_ROWS_BETWEEN_REPORTS = 500
_KINDS: Mapping[type[Preference], str] = {Pair: "a pair", Unpaired: "an unpaired row"}


def run(workspace: Workspace) -> Outcome:
    """Raises WorkerError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, IngestParameters)
    sources = sorted(workspace.inputs.roles("source"))
    if not sources:
        raise InvalidConfigError("inputs: name no source/NAME; give at least one")
    counts = {"read": 0, "kept": 0, "unpaired": 0, "invalid": 0}
    first_problem = ""
    with (
        (workspace.run_folder / PAIRS).open("w", encoding="utf-8") as kept,
        (workspace.run_folder / "invalid.jsonl").open("w", encoding="utf-8") as invalid,
    ):
        for role in sources:
            name, path = role.removeprefix("source/"), workspace.inputs.path(role)
            workspace.progress.begin(path.stat().st_size, "bytes", f"reading {name}")
            for raw, row in _preferences(path, parameters.columns.get(name, {})):
                counts["read"] += 1
                if isinstance(row, RowProblemError):
                    counts["invalid"] += 1
                    first_problem = first_problem or f"{path}: {rows.where(path)} {raw.number}: {row}"
                    _append(invalid, {"source": name, "line": raw.number, "problem": str(row)})
                else:
                    counts["kept"] += 1
                    counts["unpaired"] += isinstance(row, Unpaired)
                    _append(kept, {**row.columns(), "source": name, "line": row.number})
                if counts["read"] % _ROWS_BETWEEN_REPORTS == 0:
                    workspace.progress.reach(min(kept.tell() + invalid.tell(), path.stat().st_size))
    if not counts["kept"]:
        raise TooFewPairsError(
            f"none of the {counts['read']} rows is a pair or an unpaired row; the first problem: {first_problem}"
            if counts["read"]
            else f"{', '.join(str(workspace.inputs.path(role)) for role in sources)}: no rows; give at least one"
        )
    return Outcome(counts=counts)


def renamed(raw: Raw, columns: Mapping[str, str]) -> Raw:
    """The row with its columns renamed, source name first; a rename beats a column that has the name already."""
    if raw.columns is None:
        return raw
    kept = {name: value for name, value in raw.columns.items() if name not in (*_SAMPLED, *columns)}
    taken = {target: raw.columns[name] for name, target in columns.items() if name in raw.columns}
    return replace(raw, columns=kept | taken)


def _preferences(
    path: Path, columns: Mapping[str, str]
) -> Iterator[tuple[Raw, Preference | RowProblemError]]:
    """The first good row says of which kind the file's are."""
    kind = None
    for raw in rows.raw_rows(path):
        row: Preference | RowProblemError
        try:
            row = rows.preference_of(renamed(raw, columns))
        except RowProblemError as problem:
            row = problem
        else:
            kind = kind or type(row)
            if type(row) is not kind:
                row = RowProblemError(
                    f"is {_KINDS[type(row)]}, but the file's first is {_KINDS[kind]}; give each kind a file, and a "
                    "source, of its own"
                )
        yield raw, row


def _append(file: Any, value: Mapping[str, Any]) -> None:
    file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")

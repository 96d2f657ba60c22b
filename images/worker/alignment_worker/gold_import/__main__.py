"""The command: files in, a gold set out, and a word on each row that could not be taken."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alignment_worker import rows
from alignment_worker.failures import WorkerError
from alignment_worker.gold_import import lm_eval, table
from alignment_worker.gold_import.item import answer_of
from alignment_worker.rows import Raw, Row, RowProblemError

_SHOWN = 20
_GRADERS = ("Exact", "Numeric", "Choice", "Regex", "Python")


class _UnwritableError(Exception):
    """The gold set cannot be put where it was to be; the message says why, and what to do."""


@dataclass
class _Taken:
    """So far. `asked`: where each question stood first."""

    gold: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    again: int = 0
    asked: dict[str, str] = field(default_factory=dict)
    documents: set[tuple[Path, str]] = field(default_factory=set)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 if any row was taken, 1 if none or if a file cannot be read or written."""
    arguments = _arguments(argv)
    taken = _Taken()
    try:
        for file in arguments.files:
            for raw in rows.raw_rows(file):
                _take(raw, file, arguments, taken)
        rows.check_categories("The gold set", taken.gold)
        if taken.gold:
            _write(arguments.output, taken.gold)
    except (WorkerError, _UnwritableError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for line in _report(arguments.output, taken):
        print(line, file=sys.stdout if taken.gold else sys.stderr)
    return 0 if taken.gold else 1


def _take(raw: Raw, file: Path, arguments: argparse.Namespace, taken: _Taken) -> None:
    where = f"{file}: {rows.where(file)} {raw.number}"
    try:
        found = _row_of(raw, file, arguments, taken)
    except RowProblemError as problem:
        taken.problems.append(f"{where}: {problem}")
        return
    if found is None:
        taken.again += 1
        return
    first = taken.asked.setdefault(rows.normalised(found.prompt), where)
    if first == where:
        taken.gold.append(found)
    else:
        taken.problems.append(f"{where}: asks what {first} asks")


def _row_of(raw: Raw, file: Path, arguments: argparse.Namespace, taken: _Taken) -> Row | None:
    """None for a document that the file has had under another filter. Raises RowProblemError."""
    columns = raw.columns
    if columns is None:
        raise RowProblemError(raw.problem)
    harness = lm_eval.is_row(columns) and not arguments.column
    named = {} if harness else table.renamed(columns, arguments.column)
    item = lm_eval.item_of(columns) if harness else table.item_of(named)
    if document := lm_eval.document_of(columns):
        if (file, document) in taken.documents:
            return None
        taken.documents.add((file, document))
    grader = arguments.grader or named.get("grader")
    if grader is None:
        raise RowProblemError(f"has no `grader`; give --grader, one of {', '.join(_GRADERS)}")
    category = arguments.category or named.get("category") or lm_eval.task_of(file) or None
    made = {"prompt": item.prompt, "answer": answer_of(item, str(grader)), "grader": str(grader)}
    if category is None:
        raise RowProblemError("has no `category`; give --category, or --column NAME=category")
    if isinstance(category, list | dict):
        raise RowProblemError(f"`category` {str(category)[:60]!r} is no name; give --category")
    return rows.gold_row_of(Raw(raw.number, {**made, "category": str(category)}))


def _write(file: Path, gold: Sequence[Row]) -> None:
    """As a whole or not at all. Raises _UnwritableError."""
    if file.exists():
        raise _UnwritableError(f"{file}: is there already; name another file, or delete it")
    if not file.parent.is_dir():
        raise _UnwritableError(f"{file}: there is no folder {file.parent}; make it, or name another")
    half = file.with_name(f".{file.name}.half")
    try:
        rows.write(half, map(rows.to_wire, gold))
        half.rename(file)
    except OSError as error:
        raise _UnwritableError(f"{file}: cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            half.unlink()


def _report(output: Path, taken: _Taken) -> Iterator[str]:
    if taken.gold:
        yield f"{output}: {len(taken.gold)} items"
        for (category, grader), count in sorted(
            Counter((row.category, row.grader) for row in taken.gold).items()
        ):
            yield f"  {category}: {count}, {grader}"
    else:
        yield "error: not one row could be taken, and nothing was written"
    if taken.again:
        yield f"passed over, a document again under another filter: {taken.again}"
    if taken.problems:
        yield f"could not be taken: {len(taken.problems)}"
        yield from (f"  {problem}" for problem in taken.problems[:_SHOWN])
        if len(taken.problems) > _SHOWN:
            yield f"  … and {len(taken.problems) - _SHOWN} more"


def _column(text: str) -> tuple[str, str]:
    source, _, target = text.rpartition("=")
    if not source or target not in table.NAMES:
        raise argparse.ArgumentTypeError(
            f"{text}: write COLUMN=NAME with a name of {', '.join(table.NAMES)}, as in question=prompt"
        )
    return source, target


class _Columns(argparse.Action):
    def __call__(self, _parser: Any, namespace: argparse.Namespace, values: Any, _option: Any = None) -> None:
        columns: Mapping[str, str] = getattr(namespace, self.dest)
        setattr(namespace, self.dest, {**columns, values[0]: values[1]})


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="alignctl gold",
        description="Write a gold set from samples of lm-evaluation-harness (samples_TASK_….jsonl), or from JSON Lines "
        "or Parquet with columns of other names. Rows that cannot be taken are listed.",
        epilog="Exit status: 0 a gold set was written, 1 none was, 2 usage.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="the gold set; a file that is not there yet"
    )
    parser.add_argument(
        "--grader", choices=_GRADERS, help="for all rows; without it each row's own column `grader`"
    )
    parser.add_argument(
        "--category", help="for all rows; without it the column `category`, or the harness's task"
    )
    parser.add_argument(
        "--column",
        action=_Columns,
        type=_column,
        default={},
        metavar="COLUMN=NAME",
        help="a column, or a path as in doc.question, that is prompt, answer, choices, grader or category",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())

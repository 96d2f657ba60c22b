"""Rows of data files: JSON Lines or Parquet, read as a stream, each row checked where it is read.

A row that is no row is one error with file, line, what is wrong and what to do. Further columns are ignored.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from alignment_api.stage import InputKind
from alignment_worker import graders
from alignment_worker.failures import (
    InputMissingError,
    InvalidRowError,
    NoPromptsError,
    TooManyCategoriesError,
)

MAX_CATEGORIES = 16
MAX_CATEGORY_LENGTH = 63
_MOST_LEVELS = 100  # of one row's JSON
MAX_CATEGORY_BYTES = 320  # of all names together: sixteen of 20 characters fit the fullest report

Message = dict[str, str]
Prompt = str | list[Message]

_LABELLED_BY, _JUDGE = "labelled_by", "judge"  # of a pair that no person judged

BOM = b"\xef\xbb\xbf"
_BINARY = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip", b"PK": "zip", b"BZ": "bzip2"}


@dataclass(frozen=True)
class Raw:
    """A row as it was read: its columns, or what is wrong with it."""

    number: int  # line of a JSON Lines file, row of a Parquet file, from 1
    columns: dict[str, Any] | None
    problem: str = ""


@dataclass(frozen=True)
class Row:
    """A prompt; `answer` and `grader` where it is checkable."""

    number: int
    prompt: Prompt
    answer: str | None = None
    grader: str | None = None
    category: str | None = None


@dataclass(frozen=True)
class Pair:
    """A preference. The ids are those that were sampled, and absent where nobody sampled.

    `chosen` and `rejected` are text, or chat messages as in TRL. A truncated completion has no EOS and gets none. The
    models are digests of those that gave the answers, where an inference log knows.
    """

    number: int
    prompt: Prompt
    chosen: Prompt
    rejected: Prompt
    prompt_ids: list[int] | None = None
    chosen_ids: list[int] | None = None
    rejected_ids: list[int] | None = None
    category: str | None = None
    chosen_model: str | None = None
    rejected_model: str | None = None
    by_judge: bool = False  # no person's label, but a judge's

    def columns(self) -> dict[str, Any]:
        """By the names that it is read from again."""
        further = {
            "category": self.category,
            "chosen_model": self.chosen_model,
            "rejected_model": self.rejected_model,
        }
        columns = {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}
        if self.by_judge:
            further[_LABELLED_BY] = _JUDGE
        return columns | {name: value for name, value in further.items() if value is not None}

    def models(self) -> set[str]:
        """Digests of those that are known to have given an answer."""
        return {model for model in (self.chosen_model, self.rejected_model) if model is not None}


@dataclass(frozen=True)
class Unpaired:
    """An answer that is good or bad on its own, as text or as chat messages."""

    number: int
    prompt: Prompt
    completion: Prompt
    label: bool
    model: str | None = None

    def columns(self) -> dict[str, Any]:
        """By the names that it is read from again."""
        columns = {"prompt": self.prompt, "completion": self.completion, "label": self.label}
        return columns if self.model is None else columns | {"model": self.model}

    def models(self) -> set[str]:
        """The digest of the one that gave the answer, if it is known."""
        return set() if self.model is None else {self.model}


Preference = Pair | Unpaired

_Parsed = TypeVar("_Parsed")


class RowProblemError(ValueError):
    """What is wrong with one row."""


def read(path: Path, kind: InputKind) -> list[Row]:
    """Every row of a file of prompts.

    Raises InvalidRowError, NoPromptsError, TooManyCategoriesError, InputMissingError.
    """
    parse = _PARSERS[kind]
    found = [_strict(path, raw, parse) for raw in raw_rows(path)]
    if not found:
        raise NoPromptsError(f"{path}: holds no rows; give at least one prompt")
    check_categories(str(path), found)
    return found


def check_categories(where_from: str, some: Iterable[Row]) -> None:
    """Raises TooManyCategoriesError if a report could not hold them."""
    categories = {row.category for row in some if row.category is not None}
    if len(categories) > MAX_CATEGORIES:
        raise TooManyCategoriesError(
            f"{where_from}: has {len(categories)} categories ({', '.join(sorted(categories)[:3])}, …); at most "
            f"{MAX_CATEGORIES} can be reported. Merge some."
        )
    taken = sum(len(category.encode()) for category in categories)
    if taken > MAX_CATEGORY_BYTES:
        raise TooManyCategoriesError(
            f"{where_from}: the names of its {len(categories)} categories take {taken} bytes; at most "
            f"{MAX_CATEGORY_BYTES} fit a report. Shorten them, {max(categories, key=len)!r} for example."
        )


def read_preferences(path: Path) -> Iterator[Preference]:
    """Raises InvalidRowError, InputMissingError."""
    return (_strict(path, raw, preference_of) for raw in raw_rows(path))


def read_pairs(path: Path) -> Iterator[Pair]:
    """Without the unpaired rows. Raises InvalidRowError, InputMissingError."""
    return (row for row in read_preferences(path) if isinstance(row, Pair))


def raw_rows(path: Path) -> Iterator[Raw]:
    """Raises InvalidRowError if the file as a whole cannot be read as rows, InputMissingError."""
    check_link(path)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except IsADirectoryError as error:
        raise InvalidRowError(f"{path}: is a folder; name the file in it") from error
    except OSError as error:
        raise InputMissingError(f"{path}: cannot be read: {error.strerror}") from error
    if start == b"PAR1" or path.suffix == ".parquet":
        return parquet_rows(path)
    for magic, name in _BINARY.items():
        if start.startswith(magic):
            raise InvalidRowError(f"{path}: line 1: is {name}; give UTF-8 JSON Lines or Parquet")
    return _json_rows(path)


def write(path: Path, values: Iterable[Mapping[str, Any]]) -> int:
    """JSON Lines; how many were written. Raises OSError."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    return count


def load(path: Path) -> list[dict[str, Any]]:
    """What `write` wrote."""
    return list(stream(path))


def stream(path: Path) -> Iterator[dict[str, Any]]:
    """The same, one by one."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def to_wire(row: Row) -> dict[str, Any]:
    """The row's columns, absent ones left out."""
    columns = {"prompt": row.prompt, "answer": row.answer, "grader": row.grader, "category": row.category}
    return {name: value for name, value in columns.items() if value is not None}


def normalised(prompt: Prompt) -> str:
    """Equal for prompts that ask the same: what people said, NFKC, casefolded, without outer punctuation."""
    return graders.normalised(said(prompt))


def said(prompt: Prompt) -> str:
    """What people and models said in it, without the system's messages."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message["content"] for message in prompt if message["role"] != "system")


def row_of(raw: Raw) -> Row:
    """Raises RowProblemError."""
    columns = _columns(raw)
    prompt, category = prompt_of(columns, "prompt"), _category(columns)
    answer, grader = columns.get("answer"), columns.get("grader")
    if isinstance(answer, str) and isinstance(grader, str):
        return Row(raw.number, prompt, answer, grader, category)
    return Row(raw.number, prompt, category=category)


def checkable_row_of(raw: Raw) -> Row:
    """Raises RowProblemError."""
    columns = _columns(raw)
    prompt = prompt_of(columns, "prompt")
    answer, grader = _text(columns, "answer"), _text(columns, "grader")
    try:
        graders.check(grader, answer)
    except ValueError as error:
        raise RowProblemError(str(error)) from error
    return Row(raw.number, prompt, answer, grader, _category(columns))


def gold_row_of(raw: Raw) -> Row:
    """Raises RowProblemError."""
    row = checkable_row_of(raw)
    if row.category is None:
        raise RowProblemError("`category` is missing; every gold item needs one")
    return row


def preference_of(raw: Raw) -> Preference:
    """Raises RowProblemError."""
    return unpaired_of(raw) if is_unpaired(_columns(raw)) else pair_of(raw)


def is_unpaired(columns: Mapping[str, Any]) -> bool:
    """Raises RowProblemError for a row that is both a pair and an unpaired row."""
    if columns.get("completion") is None and columns.get("label") is None:
        return False
    paired, single = (
        [name for name in names if columns.get(name) is not None]
        for names in (("chosen", "rejected"), ("completion", "label"))
    )
    if paired and "completion" in single:
        raise RowProblemError(
            f"has `{paired[0]}` of a pair and `completion` of an unpaired row; give `chosen` and `rejected`, or "
            "`completion` and `label`"
        )
    return bool(single) and not paired


def unpaired_of(raw: Raw) -> Unpaired:
    """Raises RowProblemError."""
    columns = _columns(raw)
    prompt, completion = prompt_of(columns, "prompt"), prompt_of(columns, "completion")
    if isinstance(prompt, str) and not isinstance(completion, str):
        raise RowProblemError(
            "`completion` is a list of messages but `prompt` a string; give both as messages"
        )
    label = columns.get("label")
    if label is None:
        raise RowProblemError("`label` is missing; give true for a good completion, false for a bad one")
    if not isinstance(label, bool):
        raise RowProblemError(
            f"`label` is {shown(label)}; give true for a good completion, false for a bad one"
        )
    return Unpaired(raw.number, prompt, completion, label)


def pair_of(raw: Raw) -> Pair:
    """Raises RowProblemError."""
    columns = _columns(raw)
    ids = [_ids(columns, name) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    prompt = prompt_of(columns, "prompt")
    if None not in ids:  # sampled: an answer may be nothing but EOS, and its text empty
        chosen, rejected = columns.get("chosen", ""), columns.get("rejected", "")
        return Pair(raw.number, prompt, chosen, rejected, ids[0], ids[1], ids[2])
    chosen, rejected = prompt_of(columns, "chosen"), prompt_of(columns, "rejected")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise RowProblemError(
            "`chosen` and `rejected` differ in type; give two strings or two lists of messages"
        )
    if isinstance(prompt, str) and not isinstance(chosen, str):
        raise RowProblemError("`chosen` is a list of messages but `prompt` a string; give both as messages")
    if chosen == rejected:
        raise RowProblemError("`chosen` equals `rejected`, and such a pair teaches nothing; take it out")
    by_judge = columns.get(_LABELLED_BY) == _JUDGE
    return Pair(raw.number, prompt, chosen, rejected, category=category_if_any(columns), by_judge=by_judge)


def where(path: Path) -> str:
    return "row" if path.suffix == ".parquet" else "line"


_PARSERS: Mapping[InputKind, Callable[[Raw], Row]] = {
    InputKind.PROMPTS: row_of,
    InputKind.CHECKABLE_PROMPTS: checkable_row_of,
    InputKind.GOLD_SET: gold_row_of,
}


def _strict(path: Path, raw: Raw, parse: Callable[[Raw], _Parsed]) -> _Parsed:
    try:
        return parse(raw)
    except RowProblemError as problem:
        raise InvalidRowError(f"{path}: {where(path)} {raw.number}: {problem}") from problem


def _json_rows(path: Path) -> Iterator[Raw]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield json_row(number, line)


class _TwiceError(ValueError):
    """A key that an object has twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two values was meant nobody knows."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise _TwiceError(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def json_row(number: int, line: bytes) -> Raw:
    """The row of one line."""
    if line.startswith(BOM):
        return Raw(number, None, "starts with a byte order mark; save the file as UTF-8 without BOM")
    try:
        value = _DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        return Raw(
            number,
            None,
            f"is not UTF-8 (byte {error.start + 1} is 0x{line[error.start]:02x}); save it as UTF-8",
        )
    except _TwiceError as error:
        return Raw(number, None, f"has the key {shown(str(error))} twice; keep one")
    except ValueError as error:
        return Raw(number, None, f"is not JSON ({error}): {shown(line.decode())}; give one object a line")
    except RecursionError:
        return Raw(number, None, "is nested too deeply; give one flat object a line")
    if line.count(b"[") + line.count(b"{") > _MOST_LEVELS and is_deep(value):
        return Raw(number, None, "is nested too deeply; give one flat object a line")
    if not isinstance(value, dict):
        return Raw(number, None, f"is not an object: {shown(value)}; give one object a line")
    return Raw(number, value)


def is_deep(value: object) -> bool:
    """Whether it holds so many levels that what takes them one in another might fail."""
    level = _nested([value])
    for _ in range(_MOST_LEVELS):
        if not level:
            return False
        level = _nested(
            item for each in level for item in (each.values() if isinstance(each, dict) else each)
        )
    return True


def _nested(values: Iterable[object]) -> list[dict[str, Any] | list[Any]]:
    return [value for value in values if isinstance(value, dict | list)]


def parquet_rows(path: Path) -> Iterator[Raw]:
    """Raises InvalidRowError."""
    import pyarrow  # noqa: PLC0415 - slow to load, and most files are JSON Lines
    from pyarrow import parquet  # noqa: PLC0415

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            check_names(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=1024):
                for raw in batch_rows(batch, number):
                    number = raw.number
                    yield raw
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise InvalidRowError(f"{path}: row {number + 1}: cannot be read as Parquet: {error}") from error


_SECRET = ("/proc", "/run/secrets", "/var/run/secrets")


def check_link(path: Path) -> None:
    """What cannot be read as rows is quoted, and a link may lead to this pod's secrets. Raises InvalidRowError."""
    real = Path(os.path.realpath(path))  # which a link to itself does not end
    if any(real.is_relative_to(folder) for folder in _SECRET):
        raise InvalidRowError(
            f"{path}: is a link to {real.parts[1]}, where no data is; put a file in its place"
        )


def check_names(path: Path, names: Sequence[str]) -> None:
    """Of a table's columns. Raises InvalidRowError."""
    if len({*names}) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise InvalidRowError(f"{path}: names the column {shown(twice)} twice; keep one")


def batch_rows(batch: Any, before: int) -> Iterator[Raw]:
    """Of Arrow's, behind so many; one with a value that Python cannot hold, as the year 300,000, has a problem."""
    try:
        found = batch.to_pylist()
    except (ValueError, ArithmeticError) as error:
        if batch.num_rows == 1:
            yield Raw(before + 1, None, f"holds what cannot be read: {error}")
            return
        for place in range(batch.num_rows):
            yield from batch_rows(batch.slice(place, 1), before + place)
        return
    for number, row in enumerate(found, before + 1):
        yield Raw(number, row)


def _columns(raw: Raw) -> Mapping[str, Any]:
    if raw.columns is None:
        raise RowProblemError(raw.problem)
    return raw.columns


def prompt_of(columns: Mapping[str, Any], name: str) -> Prompt:
    """A string or chat messages. Raises RowProblemError."""
    value = columns.get(name)
    if not isinstance(value, list):
        return _text(columns, name, "a string or a list of chat messages")
    if not value:
        raise RowProblemError(f"`{name}` is an empty list; give at least one message")
    return [_message(name, position, message) for position, message in enumerate(value)]


def _message(name: str, position: int, message: object) -> Message:
    if not isinstance(message, dict):
        raise RowProblemError(
            f'`{name}[{position}]` is {shown(message)}; give {{"role": …, "content": …}} with two strings'
        )
    return {key: _text(message, key, name=f"{name}[{position}].{key}") for key in ("role", "content")}


def _text(columns: Mapping[str, Any], key: str, kind: str = "a string", name: str = "") -> str:
    name, value = name or key, columns.get(key)
    if value is None:
        there = ", ".join(shown(str(column)[:40]).strip('"') for column in list(columns)[:10]) or "nothing"
        raise RowProblemError(f"`{name}` is missing; give {kind} (here is: {there})")
    if not isinstance(value, str):
        raise RowProblemError(f"`{name}` is {shown(value)}, not {kind}")
    if not value.strip():
        raise RowProblemError(f"`{name}` is empty; give {kind}")
    if "\0" in value:
        raise RowProblemError(f"`{name}` holds a NUL at character {value.index(chr(0)) + 1}; take it out")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowProblemError(
            f"`{name}` holds half a surrogate pair at character {error.start + 1}; mend it"
        ) from error
    return value


def _category(columns: Mapping[str, Any]) -> str | None:
    if columns.get("category") is None:
        return None
    category = _text(columns, "category")
    if len(category) > MAX_CATEGORY_LENGTH:
        raise RowProblemError(
            f"`category` {shown(category)} is longer than {MAX_CATEGORY_LENGTH} characters; shorten it"
        )
    if not category.isprintable():
        raise RowProblemError(f"`category` {category!r} holds what cannot be printed on a line; take it out")
    return category


def category_if_any(columns: Mapping[str, Any]) -> str | None:
    """Of a dataset's row, where other people's columns may bear the name: what is no category counts as none."""
    try:
        return _category(columns)
    except RowProblemError:
        return None


def _ids(columns: Mapping[str, Any], name: str) -> list[int] | None:
    value = columns.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(type(item) is int and item >= 0 for item in value):
        raise RowProblemError(f"`{name}` is {shown(value)}, not a list of token ids")
    return value


def shown(value: object) -> str:
    """The value, shortened, safe to print."""
    text = (
        re.sub(r"\s+", " ", json.dumps(value, ensure_ascii=False, default=str))
        .encode(errors="replace")
        .decode()
    )
    return text if len(text) <= 80 else text[:77] + "…"

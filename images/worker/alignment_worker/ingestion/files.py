"""The rows of a source's file as a stream: JSON Lines, CSV, Parquet, and what `datasets` saves (Arrow).

What is wrong with a row, or with the rest of a file, is a row with a problem: the others stay. A file that cannot be
opened, or goes while it is read, is an error, since it may come back.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from alignment_worker import rows
from alignment_worker.failures import InputMissingError, InvalidRowError
from alignment_worker.rows import Raw

MAX_ROW_BYTES = 16 << 20
_BUFFER_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16
_GZIP, _ZSTD, _PARQUET, _ARROW_FILE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1", b"ARROW1"
_NO_ROWS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
}


@dataclass(frozen=True)
class File:
    """One file of this machine, and its name as people know it: below the part of the URI that has no `*`."""

    path: Path
    name: str


def raw_rows(file: File) -> Iterator[tuple[Raw, bytes]]:
    """Each row, and its text, where it has one. What is wrong with a row never says where on this machine it was read.

    Raises InputMissingError.
    """
    number = 0
    try:
        for raw, text in _rows(file.path):
            number = raw.number
            yield raw, text
    except InvalidRowError as error:
        problem = str(error).removeprefix(f"{file.path}: ").replace(str(file.path), file.name)
        yield Raw(number + 1, None, problem), b""
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield _broken_off(number, str(error)), b""
    except OSError as error:
        if error.errno is not None:
            raise missing(file.path, error) from error
        yield _broken_off(number, str(error)), b""  # pyarrow's own, of what it read


def missing(path: Path, error: OSError) -> InputMissingError:
    """For a file that cannot be read."""
    return InputMissingError(
        f"{error.filename or path} cannot be read: {error.strerror}. It went, or the pod's user may not read it."
    )


def _broken_off(number: int, why: str) -> Raw:
    return Raw(number + 1, None, f"and all that follows cannot be read: {why[:300]}; write the file anew")


def _rows(path: Path) -> Iterator[tuple[Raw, bytes]]:
    rows.check_link(path)
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_PARQUET) or path.suffix == ".parquet":
        return ((raw, b"") for raw in rows.parquet_rows(path))
    if start.startswith(_ARROW_FILE) or path.suffix == ".arrow":
        return ((raw, b"") for raw in _arrow_rows(path, as_file=start.startswith(_ARROW_FILE)))
    for magic, name in _NO_ROWS.items():
        if start.startswith(magic):
            raise InvalidRowError(f"{path}: is {name}; give UTF-8 JSON Lines, CSV or Parquet")
    return _text_rows(path, start)


def _text_rows(path: Path, start: bytes) -> Iterator[tuple[Raw, bytes]]:
    name = re.sub(r"\.(gz|zst|zstd)$", "", path.name.lower())
    with _opened(path, start) as file:
        yield from _csv_rows(path, file) if name.endswith(".csv") else _json_rows(file)


def _opened(path: Path, start: bytes) -> IO[bytes]:
    if start.startswith(_GZIP):
        return io.BufferedReader(_Pieces(gzip.open(path, "rb")), _BUFFER_BYTES)
    if start.startswith(_ZSTD):
        import pyarrow  # noqa: PLC0415 - slow to load

        return io.BufferedReader(_Pieces(pyarrow.input_stream(str(path), compression="zstd")), _BUFFER_BYTES)
    return path.open("rb", buffering=_BUFFER_BYTES)


class _Pieces(io.RawIOBase):
    """Gives what is there before it fails: of a file that breaks off, what came before is good."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read1(min(len(buffer), _PIECE_BYTES))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes, int]]:
    """Number, content and length; a line that is too long is cut."""
    number = 0
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        length = len(line)
        while length > MAX_ROW_BYTES and not line.endswith(b"\n"):
            rest = file.readline(MAX_ROW_BYTES)
            length += len(rest)
            if not rest or rest.endswith(b"\n"):
                break
        if number == 1:
            line = line.removeprefix(rows.BOM)
        yield number, line, length


def _json_rows(file: IO[bytes]) -> Iterator[tuple[Raw, bytes]]:
    for number, line, length in _lines(file):
        if length > MAX_ROW_BYTES:
            problem = f"has {length} bytes; a row has at most {MAX_ROW_BYTES}"
            yield Raw(number, None, problem), line[:_BUFFER_BYTES]
        elif line.strip():
            yield rows.json_row(number, line), line


def _csv_rows(path: Path, file: IO[bytes]) -> Iterator[tuple[Raw, bytes]]:
    """The first row names the columns; a cell may hold JSON where a column needs a list. Raises InvalidRowError."""
    csv.field_size_limit(MAX_ROW_BYTES)
    # A byte that is not UTF-8 becomes half a surrogate pair, which the row's check names.
    reader = csv.reader((line.decode(errors="surrogateescape") for _, line, _ in _lines(file)), strict=True)
    header: list[str] | None = None
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            rest = f", up to line {reader.line_num}" if reader.line_num > number else ""
            problem = f"is not CSV{rest}: {error}; put quotes around a cell, and twice in it"
            yield Raw(number, None, problem), b""
            continue
        if not cells:
            continue
        if header is None:
            header = cells
            rows.check_names(path, header)
        elif len(cells) != len(header):
            problem = f"has {len(cells)} cells, and the first line {len(header)}"
            yield Raw(number, None, problem), ",".join(cells)[:_BUFFER_BYTES].encode(errors="replace")
        else:
            yield Raw(number, _from_cells(header, cells)), b""


_LISTS = ("completions", "ranks", "scores")
_LABELS = {"true": True, "1": True, "false": False, "0": False}


def _from_cells(header: list[str], cells: list[str]) -> dict[str, Any]:
    """An empty cell is a column that the row has not."""
    return {name: _value(name, cell) for name, cell in zip(header, cells, strict=True) if cell}


def _value(name: str, cell: str) -> Any:
    if name == "label":
        return _LABELS.get(cell.strip().lower(), cell)
    if cell.startswith("[{" if name not in _LISTS else "["):
        with suppress(ValueError, RecursionError):
            found = json.loads(cell)
            return cell if rows.is_deep(found) else found
    return cell


def _arrow_rows(path: Path, *, as_file: bool) -> Iterator[Raw]:
    import pyarrow  # noqa: PLC0415 - slow to load
    from pyarrow import ipc  # noqa: PLC0415

    number = 0
    try:
        with pyarrow.OSFile(str(path)) as file:
            reader = ipc.open_file(file) if as_file else ipc.open_stream(file)
            rows.check_names(path, reader.schema.names)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if as_file else reader
            for batch in batches:
                for start in range(0, batch.num_rows, 1024):
                    for raw in rows.batch_rows(batch.slice(start, 1024), number):
                        number = raw.number
                        yield raw
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise InvalidRowError(f"{path}: row {number + 1}: cannot be read as Arrow: {error}") from error

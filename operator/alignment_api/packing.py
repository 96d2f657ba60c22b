"""A stage's report in few bytes: a JSON head, the numbers as 16-bit floats, LZMA, base 85.

The termination message has 2,048 bytes. The fullest report of `evaluate` (16 categories, five measurements
each with every field set, fourteen over all), with incompressible names of 20 characters, just fits with the
numbers as IEEE half floats: eleven bits, at most 0.05 % off, 65,504 at most.
"""

from __future__ import annotations

import base64
import itertools
import json
import lzma
import math
import struct
from collections.abc import Iterator
from typing import Any

from alignment_api.measurements import Measurement

Wire = dict[str, Any]

_PREFIX = "z:"
_FLOATS = [str(field.alias) for name, field in Measurement.model_fields.items() if name != "n"]
_LARGEST_HALF = 65504.0
# Raw, for there is no room for a container's header; a dictionary that holds any report.
_FILTERS = [{"id": lzma.FILTER_LZMA1, "preset": 9, "dict_size": 1 << 16, "lc": 0, "lp": 0, "pb": 0}]


def plain(wire: Wire) -> str:
    """JSON with numbers of four significant digits."""
    return json.dumps(_rounded(wire), separators=(",", ":"), ensure_ascii=False)


def packed(wire: Wire) -> str:
    """The same in fewer bytes, in ASCII, behind `z:`."""
    halves = b""
    if "result" in wire:
        wire = wire | {"result": dict(wire["result"])}
        for key, rows in _tables(wire["result"]).items():
            wire["result"][key], numbers = _columns(rows)
            halves += numbers
    head = plain(wire).encode()
    # Signs and exponents resemble each other; apart from the digits they compress well.
    data = lzma.compress(head + b"\0" + halves[::2] + halves[1::2], format=lzma.FORMAT_RAW, filters=_FILTERS)
    return _PREFIX + base64.b85encode(data).decode()


def unpacked(text: str) -> Any:
    """What `plain` or `packed` was given. Raises ValueError if it is damaged."""
    if not text.startswith(_PREFIX):
        return json.loads(text)
    try:
        data = base64.b85decode(text.removeprefix(_PREFIX))
        head, _, split = lzma.decompress(data, format=lzma.FORMAT_RAW, filters=_FILTERS).partition(b"\0")
        middle = len(split) // 2
        halves = bytes(itertools.chain.from_iterable(zip(split[:middle], split[middle:], strict=True)))
        numbers = (number for (number,) in struct.iter_unpack(">e", halves))
        wire: Wire = json.loads(head)
        if "result" in wire:
            result = wire["result"]
            result["measurements"] = _rows(*result["measurements"], numbers=numbers)[""]
            result["byCategory"] = _rows(*result["byCategory"], numbers=numbers)
    except (lzma.LZMAError, LookupError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(f"damaged: {error}") from error
    return wire


def _tables(result: Wire) -> dict[str, Wire]:
    """Measurements by row and name; those over all are a table of one row."""
    return {"measurements": {"": result.get("measurements", {})}, "byCategory": result.get("byCategory", {})}


def _columns(rows: Wire) -> tuple[list[Any], bytes]:
    """For the head: the rows' names, the measurements' names, their sample sizes. For its tail: the floats."""
    names = sorted({name for row in rows.values() for name in row})
    table = [[row.get(name, {}) for row in rows.values()] for name in names]
    numbers = [cell.get(field) for column in table for field in _FLOATS for cell in column]
    counts = [[cell.get("n") for cell in column] for column in table]
    return [list(rows), names, counts], struct.pack(f">{len(numbers)}e", *map(_half, numbers))


def _rows(keys: list[str], names: list[str], counts: list[list[Any]], *, numbers: Iterator[float]) -> Wire:
    rows: Wire = {key: {} for key in keys}
    for name, column in zip(names, counts, strict=True):
        floats = [[next(numbers) for _ in keys] for _ in _FLOATS]
        for key, n, *values in zip(keys, column, *floats, strict=True):
            if n is not None:
                found = zip(_FLOATS, values, strict=True)
                rows[key][name] = {field: value for field, value in found if not math.isnan(value)} | {"n": n}
    return rows


def _half(number: float | None) -> float:
    """Absent is NaN, which no measurement can be. Only a mean of tokens could exceed the largest half."""
    return math.nan if number is None else max(-_LARGEST_HALF, min(_LARGEST_HALF, number))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        short = float(f"{value:.4g}")
        return int(short) if short.is_integer() and abs(short) < 1e6 else short
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value

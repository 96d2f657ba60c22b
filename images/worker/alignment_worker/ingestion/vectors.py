"""The vector store: a LanceDB table of a revision's interactions, in its folder; no server.

It lies in what is derived of a run, for its bytes differ from run to run: `derived/interactions.lance`. A row each of
what was embedded: `ordinal` (0: it was left out after all), `key`, `source`, `prompt`, and float16 vectors of length 1,
`vector` of the prompt, `first` of the chosen or only answer, `second` of the rejected one or zeros; `whole`: the model
read all of them.

Beside it `derived/prompts.lance`, a row for each line of prompts.jsonl: the prompt's `key`, its `vector`, and the
number of its `cluster`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from alignment_worker.ingestion.identity import KEY_BYTES
from alignment_worker.ingestion.ordinals import Keys, Numbers

TABLE = "interactions"
PROMPTS = "prompts"
VECTORS = ("vector", "first", "second")
_MODEL = b"model"  # in the schema's metadata: the digest of its folder
_ROWS_AT_ONCE = 4096
_log = logging.getLogger(__name__)


def batch(
    ordinals: Numbers,
    keys: Keys,
    sources: Sequence[str],
    prompts: Sequence[str],
    whole: Numbers,
    vectors: Numbers,
) -> pyarrow.RecordBatch:
    """`vectors`: rows × 3 × dimensions."""
    columns = [
        pyarrow.array(ordinals, pyarrow.int64()),
        _binary(keys),
        pyarrow.array(sources, pyarrow.string()),
        pyarrow.array(prompts, pyarrow.string()),
        pyarrow.array(whole, pyarrow.bool_()),
        *(_vectors(vectors[:, part]) for part in range(len(VECTORS))),
    ]
    return pyarrow.RecordBatch.from_arrays(columns, schema=_schema(vectors.shape[2]))


def write(folder: Path, batches: Iterator[pyarrow.RecordBatch], dimensions: int, model: str) -> None:
    """Makes the table. `model`: the digest of what embedded. Raises OSError."""
    _write(folder, TABLE, batches, _schema(dimensions), model)


def write_prompts(folder: Path, batches: Iterator[pyarrow.RecordBatch], dimensions: int, model: str) -> None:
    """As `write`."""
    _write(folder, PROMPTS, batches, _prompts_schema(dimensions), model)


def _write(
    folder: Path, table: str, batches: Iterator[pyarrow.RecordBatch], schema: pyarrow.Schema, model: str
) -> None:
    import lancedb  # noqa: PLC0415 - takes seconds, and is needed where something is embedded alone

    schema = schema.with_metadata({_MODEL: model.encode()})
    lancedb.connect(str(folder)).create_table(table, data=batches, schema=schema)


def prompts_batch(keys: Keys, vectors: Numbers, clusters: Numbers) -> pyarrow.RecordBatch:
    """`vectors`: prompts × dimensions."""
    columns = [_binary(keys), _vectors(vectors), pyarrow.array(clusters, pyarrow.int32())]
    return pyarrow.RecordBatch.from_arrays(columns, schema=_prompts_schema(vectors.shape[1]))


def read_prompts(folder: Path, model: str) -> Iterator[tuple[Keys, Numbers]]:
    """Keys and vectors, as far as the table is there, is that model's and can be read."""
    for some in _known(folder, model, PROMPTS, ["key", "vector"]):
        yield _keys(some), _flat(some, "vector")


def clusters(folder: Path) -> tuple[Keys, Numbers]:
    """Keys of all prompts, in their order, and the cluster of each. Raises FileNotFoundError if they are in none."""
    if not in_clusters(folder):
        raise FileNotFoundError(folder / f"{PROMPTS}.lance")
    import lancedb  # noqa: PLC0415

    table = lancedb.connect(str(folder)).open_table(PROMPTS)
    found = [
        (_keys(some), some.column("cluster").to_numpy())
        for some in table.search().select(["key", "cluster"]).to_batches(_ROWS_AT_ONCE)
    ]
    keys, numbers = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(keys)
    return keys[order], numbers[order]


def in_clusters(folder: Path) -> bool:
    return (folder / f"{PROMPTS}.lance").is_dir()


def read(folder: Path, model: str) -> Iterator[tuple[Keys, Numbers, Numbers]]:
    """Keys, `whole`, and vectors (rows × 3 × dimensions), as far as the table is there, that model's and sound."""
    for some in _known(folder, model, TABLE, ["key", "whole", *VECTORS]):
        parts = [_flat(some, name) for name in VECTORS]
        yield (
            _keys(some),
            np.array(some.column("whole").to_pylist(), bool),
            np.stack(parts, axis=1),
        )


def _known(folder: Path, model: str, name: str, columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
    """What is derived can be made anew: a table that is damaged is one that lacks rows."""
    try:
        table = opened(folder, model, name)
        if table is not None:
            yield from table.search().select(columns).to_batches(_ROWS_AT_ONCE)
    except (OSError, ValueError, RuntimeError) as error:
        _log.warning("%s.lance cannot be read; what it lacks is embedded anew: %s", folder / name, error)


def nearest(table: Any, vector: Numbers, most: int) -> dict[int, float]:
    """By ordinal the cosine of the prompts that are most alike, best first."""
    found = (
        table.search(vector.astype(np.float32), vector_column_name="vector")
        .distance_type("cosine")
        .where("ordinal > 0")
        .select(["ordinal", "_distance"])
        .limit(most)
        .to_list()
    )
    return {row["ordinal"]: 1 - row["_distance"] for row in found}


def opened(folder: Path, model: str, name: str = TABLE) -> Any:
    """The table; None if there is none of that model."""
    if not (folder / f"{name}.lance").is_dir():
        return None
    import lancedb  # noqa: PLC0415

    table = lancedb.connect(str(folder)).open_table(name)
    return table if (table.schema.metadata or {}).get(_MODEL) == model.encode() else None


def _schema(dimensions: int) -> pyarrow.Schema:
    return pyarrow.schema(
        [
            ("ordinal", pyarrow.int64()),
            ("key", pyarrow.binary(KEY_BYTES)),
            ("source", pyarrow.string()),
            ("prompt", pyarrow.string()),
            ("whole", pyarrow.bool_()),
            *((name, pyarrow.list_(pyarrow.float16(), dimensions)) for name in VECTORS),
        ]
    )


def _prompts_schema(dimensions: int) -> pyarrow.Schema:
    return pyarrow.schema(
        [
            ("key", pyarrow.binary(KEY_BYTES)),
            ("vector", pyarrow.list_(pyarrow.float16(), dimensions)),
            ("cluster", pyarrow.int32()),
        ]
    )


def _binary(keys: Keys) -> pyarrow.Array:
    return pyarrow.array([key.ljust(KEY_BYTES, b"\0") for key in keys.tolist()], pyarrow.binary(KEY_BYTES))


def _vectors(vectors: Numbers) -> pyarrow.Array:
    values = pyarrow.array(np.ascontiguousarray(vectors).ravel(), pyarrow.float16())
    return pyarrow.FixedSizeListArray.from_arrays(values, vectors.shape[1])


def _keys(some: pyarrow.RecordBatch) -> Keys:
    return np.array(some.column("key").to_pylist(), f"S{KEY_BYTES}")


def _flat(some: pyarrow.RecordBatch, name: str) -> Numbers:
    dimensions = some.schema.field(name).type.list_size
    flat: Numbers = some.column(name).flatten().to_numpy().reshape(-1, dimensions)
    return flat

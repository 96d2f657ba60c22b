"""The vector store: a LanceDB table of a revision's interactions, in its folder; no server.

It lies in what is derived of a run, for its bytes differ from run to run: `derived/interactions.lance`. A row each of
what was embedded: `ordinal` (0: it was left out after all), `key`, `source`, `prompt`, and float16 vectors of length 1,
`vector` of the prompt, `first` of the chosen or only answer, `second` of the rejected one or zeros; `whole`: the model
read all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from alignment_worker.ingestion.identity import KEY_BYTES
from alignment_worker.ingestion.ordinals import Keys, Numbers

TABLE = "interactions"
VECTORS = ("vector", "first", "second")
_MODEL = b"model"  # in the schema's metadata: the digest of its folder
_ROWS_AT_ONCE = 4096


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
        pyarrow.array([key.ljust(KEY_BYTES, b"\0") for key in keys.tolist()], pyarrow.binary(KEY_BYTES)),
        pyarrow.array(sources, pyarrow.string()),
        pyarrow.array(prompts, pyarrow.string()),
        pyarrow.array(whole, pyarrow.bool_()),
        *(
            pyarrow.FixedSizeListArray.from_arrays(
                pyarrow.array(np.ascontiguousarray(vectors[:, part]).ravel(), pyarrow.float16()),
                vectors.shape[2],
            )
            for part in range(len(VECTORS))
        ),
    ]
    return pyarrow.RecordBatch.from_arrays(columns, schema=_schema(vectors.shape[2]))


def write(folder: Path, batches: Iterator[pyarrow.RecordBatch], dimensions: int, model: str) -> None:
    """Makes the table. `model`: the digest of what embedded. Raises OSError."""
    import lancedb  # noqa: PLC0415 - takes seconds, and is needed where something is embedded alone

    schema = _schema(dimensions).with_metadata({_MODEL: model.encode()})
    lancedb.connect(str(folder)).create_table(TABLE, data=batches, schema=schema)


def read(folder: Path, model: str) -> Iterator[tuple[Keys, Numbers, Numbers]]:
    """Keys, `whole`, and vectors (rows × 3 × dimensions), if the table is there and that model's."""
    table = opened(folder, model)
    if table is None:
        return
    for some in table.search().select(["key", "whole", *VECTORS]).to_batches(_ROWS_AT_ONCE):
        dimensions = some.schema.field("vector").type.list_size
        parts = [some.column(name).flatten().to_numpy().reshape(-1, dimensions) for name in VECTORS]
        yield (
            np.array(some.column("key").to_pylist(), f"S{KEY_BYTES}"),
            np.array(some.column("whole").to_pylist(), bool),
            np.stack(parts, axis=1),
        )


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


def opened(folder: Path, model: str) -> Any:
    """The table; None if there is none of that model."""
    if not (folder / f"{TABLE}.lance").is_dir():
        return None
    import lancedb  # noqa: PLC0415

    table = lancedb.connect(str(folder)).open_table(TABLE)
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

"""Reading a file of a bucket on this machine: as a source's file is fetched, against a loop over `fsspec.open`.

    python -m benchmarks.buckets --mib 100 --rounds 5

The server is the tests' own (moto), and the same for both, turn by turn. `fsspec` goes by obstore's own `s3://`, and
computes no digest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import fsspec
from obstore.fsspec import register

from alignment_api.uris import in_bucket
from alignment_worker.ingestion import buckets
from alignment_worker.ingestion.object_store import ObjectStore
from tests.buckets.server import KEYS, Server


def fetched(server: Server, uri: str, folder: Path) -> int:
    """Onto the disk, with its digest, as a refresh does."""
    place = in_bucket(uri)
    assert place is not None
    store = ObjectStore(place, "", {**KEYS, "AWS_ENDPOINT_URL": server.url})
    (file,) = buckets.files_of(store, uri, place).files(folder)
    return len(file.name)


def looped(server: Server, uri: str) -> int:
    given = {"endpoint": server.url, "access_key_id": "a", "secret_access_key": "b", "region": "us-east-1"}
    size = 0
    with fsspec.open(uri, "rb", config=given, client_options={"allow_http": True}) as file:
        while block := file.read(1 << 20):
            size += len(block)
    return size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    register("s3")
    seconds: dict[str, list[float]] = {"fetched": [], "fsspec.open": []}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        try:
            uri = server.put("big.jsonl", os.urandom(1 << 20) * given.mib)
            for number in range(given.rounds):
                started = time.perf_counter()
                fetched(server, uri, Path(folder) / str(number))
                seconds["fetched"].append(time.perf_counter() - started)
                started = time.perf_counter()
                looped(server, uri)
                seconds["fsspec.open"].append(time.perf_counter() - started)
        finally:
            server.stop()
    for name, taken in seconds.items():
        middle = statistics.median(taken)
        print(f"{name}: {middle:.2f} s (median of {given.rounds}), {given.mib / middle:.0f} MiB/s")


if __name__ == "__main__":
    main()

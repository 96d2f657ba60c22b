"""The floor: the same Jobs, one after another in each chain, made by a loop that decides nothing and keeps nothing.

Run as `python -m benchmarks.scale.floor JOBS CHAINS CAP`. It says DONE when the last Job is complete, and waits to be
ended, so that what it used can be read.
"""

from __future__ import annotations

import asyncio
import copy
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from alignment_operator.api import JOB
from alignment_operator.cluster import Cluster, connect
from benchmarks.scale.fleet import where

DONE = "every chain has ended"
_LABEL = "floor"
_AT_ONCE = 8  # as the operator's workers


async def run(templates: Sequence[dict[str, Any]], chains: int, cap: int) -> None:
    """At most `cap` chains at once; 0: all."""
    async with connect() as cluster:
        await _Chains(cluster, templates, chains, cap).run()
    print(DONE, flush=True)
    await asyncio.Event().wait()


class _Chains:
    def __init__(self, cluster: Cluster, templates: Sequence[dict[str, Any]], chains: int, cap: int) -> None:
        self._cluster = cluster
        self._templates = templates
        self._to_begin = iter(range(chains))
        self._first = cap or chains
        self._left = chains
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._done: set[str] = set()

    async def run(self) -> None:
        _, version = await self._cluster.list_all(JOB, "", _LABEL)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._first):
                for chain in self._next_chain():
                    tasks.create_task(self._make(chain, 0))
            while self._left:
                async for _, job in self._cluster.watch(JOB, "", _LABEL, version, lambda: None):
                    version = job["metadata"]["resourceVersion"]
                    self._see(job, tasks)
                    if not self._left:
                        break

    def _next_chain(self) -> Iterator[int]:
        chain = next(self._to_begin, None)
        if chain is not None:
            yield chain

    def _see(self, job: dict[str, Any], tasks: asyncio.TaskGroup) -> None:
        metadata = job["metadata"]
        ended = any(row["type"] == "Complete" for row in job.get("status", {}).get("conditions") or ())
        if not ended or metadata["uid"] in self._done:
            return
        self._done.add(metadata["uid"])
        chain, step = map(int, metadata["labels"][_LABEL].split("."))
        if step + 1 < len(self._templates):
            tasks.create_task(self._make(chain, step + 1))
            return
        self._left -= 1
        for begun in self._next_chain():
            tasks.create_task(self._make(begun, 0))

    async def _make(self, chain: int, step: int) -> None:
        namespace, name = where(chain)
        job = copy.deepcopy(self._templates[step])
        metadata = job["metadata"]
        metadata["namespace"] = namespace
        metadata["name"] = f"{name}-{metadata['name'].partition('-')[2]}"
        metadata["labels"][_LABEL] = f"{chain}.{step}"
        async with self._free:
            await self._cluster.create(JOB, job)


if __name__ == "__main__":
    asyncio.run(run(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2]), int(sys.argv[3])))

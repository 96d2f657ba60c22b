"""What a person, or the cluster, does to a Job that runs, and to one of its pods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from alignment_operator.api import JOB, POD, Kind, Manifest
from alignment_operator.cluster import Cluster
from tests.faults.people import People
from tests.faults.scenarios import Run
from tests.faults.trial import Fault, Hand

Act = Callable[[Cluster, Manifest, Manifest], Awaitable[None]]
_POLL_SECONDS = 0.1


def in_stage(name: str, stage: str, act: Act, *, made_again: int = 0) -> Fault:
    """While the stage computes."""
    return Fault(
        f"{name}, {stage}", hand=_when_running(stage, act), held=stage, exact=False, made_again=made_again
    )


async def delete_job(cluster: Cluster, job: Manifest, _: Manifest) -> None:
    await cluster.delete(JOB, job["metadata"]["namespace"], job["metadata"]["name"], job["metadata"]["uid"])


async def delete_pod(cluster: Cluster, _: Manifest, pod: Manifest) -> None:
    metadata = pod["metadata"]
    await cluster.delete(POD, metadata["namespace"], metadata["name"], metadata["uid"])


async def evict(cluster: Cluster, _: Manifest, pod: Manifest) -> None:
    """By the API that `kubectl drain` uses."""
    metadata = {key: pod["metadata"][key] for key in ("name", "namespace")}
    eviction = Kind("v1", "Eviction", f"pods/{metadata['name']}/eviction")
    await cluster.create(eviction, {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})


def _when_running(stage: str, act: Act) -> Hand:
    async def hand(people: People, run: Run) -> None:
        cluster = people.cluster
        job, pod = await people.running(run, stage)
        await act(cluster, job, pod)
        metadata = pod["metadata"]
        there: Manifest | None = pod
        while there is not None:
            await asyncio.sleep(_POLL_SECONDS)
            there = await cluster.get(POD, metadata["namespace"], metadata["name"])
        run.release(stage)

    return hand

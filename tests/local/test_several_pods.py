"""Without a cluster one process does what several pods would, and no queue is waited for."""

from __future__ import annotations

from typing import Any

from tests.local.test_run import Ran, StandIn, ran, runs_of

__all__ = ["ran"]  # the fixture

Manifest = dict[str, Any]


def several(cycle: Manifest) -> Manifest:
    spec = cycle["spec"]
    spec["sampling"] = {"shards": 4}
    spec["training"] = {"nodes": 2}
    spec["defaults"] = {"queueName": "team-a", "retries": 1}
    return cycle


def test_shards_nodes_and_queues_need_no_cluster(ran: Ran, stand_in: StandIn, cycle: Manifest) -> None:
    ended = ran(several(cycle))
    assert ended["status"]["iteration"]["outcome"] == "Promoted"
    assert {stage["attempt"] for stage in ended["status"]["iteration"]["stages"]} == {0}
    states = [stage["state"] for seen in ran.seen for stage in _stages(seen.manifest)]
    assert "Running" in states, "nobody waits for the pods that are not there"


def test_shards_are_retried_as_often_as_one_pod(ran: Ran, stand_in: StandIn, cycle: Manifest) -> None:
    stand_in("sample", {"exit": 1}, {"exit": 1}, {"exit": 1})
    ended = ran(several(cycle))
    assert ended["status"]["iteration"]["outcome"] == "Failed"
    assert runs_of(stand_in, "sample") == 2


def _stages(manifest: Manifest) -> list[Manifest]:
    found: list[Manifest] = manifest.get("status", {}).get("iteration", {}).get("stages", [])
    return found

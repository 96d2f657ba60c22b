"""`alignment-operator run`, the process, on a real cluster whose pods are stood in for by the test."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alignment_api import digests
from alignment_operator.api import CONFIG_MAP, CYCLE, DATASET, JOB, Manifest
from alignment_operator.runtime.operator import tell
from tests.cluster.client import Client, Namespace
from tests.cluster.processes import Child
from tests.cluster.waiting import wait_until
from tests.operator.edges import VERSION, cycle

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

SECONDS = 60.0
Start = Callable[[], Child]

_PORTS = ("--health-port", "0", "--metrics-port", "0")  # none, for several run side by side
OPERATOR = (sys.executable, "-m", "alignment_operator.runtime.main", "run", *_PORTS)


@pytest.fixture
def start(cluster: Client, crds: None, namespace: Namespace, tmp_path: Path) -> Iterator[Start]:
    """Starts the operator for the test's namespace."""
    children: list[Child] = []

    def run() -> Child:
        options = ["-v", "--namespace", namespace.name, "--worker-image", "busybox"]
        children.append(process(cluster.kubeconfig, tmp_path / f"operator-{len(children)}.log", *options))
        children[-1].start()
        return children[-1]

    yield run
    for child in children:
        child.stop()


def process(kubeconfig: Path, log: Path, *options: str) -> Child:
    """Not started yet."""
    return Child("operator", [*OPERATOR, *options], log, os.environ | {"KUBECONFIG": str(kubeconfig)})


def iteration_started(namespace: Namespace) -> Manifest:
    def named(it: Manifest) -> bool:
        stages = it.get("status", {}).get("iteration", {}).get("stages") or [{}]
        return "jobUID" in stages[0]

    return namespace.wait(CYCLE.api_version, CYCLE.plural, "support", named, "its first Job is made", SECONDS)


def jobs(namespace: Namespace) -> list[str]:
    return [job["metadata"]["name"] for job in namespace.list(JOB.api_version, JOB.plural)]


def test_it_starts_an_iteration_and_leaves_no_mark_of_its_framework(
    start: Start, namespace: Namespace
) -> None:
    start()
    namespace.apply(cycle("support", namespace.name))
    found = iteration_started(namespace)
    assert set(found["metadata"]["annotations"]) == {
        "alignment.dev/run",
        "kubectl.kubernetes.io/last-applied-configuration",
    }
    assert "finalizers" not in found["metadata"]
    managers = {entry["manager"] for entry in found["metadata"]["managedFields"]}
    assert managers == {"kubectl-client-side-apply", "alignment-operator"}


def test_it_stops_in_order_when_it_is_told_to(start: Start, namespace: Namespace) -> None:
    operator = start()
    namespace.apply(cycle("support", namespace.name))
    iteration_started(namespace)
    process = operator._process
    assert process is not None
    operator.signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0, operator.log_end()
    assert "Traceback" not in operator.log.read_text()


def test_a_watch_that_is_closed_while_it_hands_an_event_on_is_no_trouble(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def objects() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            raise RuntimeError("generator didn't stop")

    async def stopped(generator: AsyncIterator[int]) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(tell)
        await anext(generator)
        loop.call_exception_handler({"message": "a task died"})

    kept = objects()  # until the loop closes it
    asyncio.run(stopped(kept))
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == [
        "a task died"
    ]


def test_one_that_is_killed_and_started_again_makes_nothing_twice(start: Start, namespace: Namespace) -> None:
    first = start()
    namespace.apply(cycle("support", namespace.name))
    wait_until(lambda: jobs(namespace), "a Job is made", SECONDS)
    first.kill()
    start()
    found = iteration_started(namespace)
    assert jobs(namespace) == [found["status"]["iteration"]["stages"][0]["job"]]


def test_a_deleted_job_wakes_its_cycle_which_starts_another(start: Start, namespace: Namespace) -> None:
    start()
    namespace.apply(cycle("support", namespace.name))
    stage = iteration_started(namespace)["status"]["iteration"]["stages"][0]
    namespace.kubectl("delete", "job", stage["job"], "--wait=false")
    wait_until(lambda: [name for name in jobs(namespace) if name != stage["job"]], "another is made", SECONDS)
    found = namespace.get(CYCLE.api_version, CYCLE.plural, "support")
    assert found is not None
    assert found["status"]["iteration"]["stages"][0]["attempt"] == 1


def test_a_dataset_that_gets_ready_wakes_the_cycle_that_waits_for_it(
    start: Start, namespace: Namespace
) -> None:
    start()
    namespace.apply(cycle("support", namespace.name, datasets=[{"name": "feedback"}]))
    namespace.wait(
        CYCLE.api_version,
        CYCLE.plural,
        "support",
        lambda it: "feedback" in str(it.get("status", {}).get("conditions")),
        "it says what it waits for",
        SECONDS,
    )
    assert jobs(namespace) == []
    files = {"uri": "pvc://data/pairs.jsonl"}
    namespace.apply(
        {
            "apiVersion": VERSION,
            "kind": "PreferenceDataset",
            "metadata": {"name": "feedback"},
            "spec": {"store": {"uri": "pvc://data/store"}, "sources": [{"name": "a", "files": files}]},
        }
    )
    (ingest,) = wait_until(lambda: jobs(namespace), "the ingest is started", SECONDS)
    assert ingest.startswith("feedback-1-ingest-0-")
    _say_it_is_ready(namespace)
    iteration_started(namespace)


def _say_it_is_ready(namespace: Namespace) -> None:
    """In the operator's name, with the revision that no worker made here."""
    moment = "2026-11-23T03:00:00Z"
    ingest = {"name": "ingest", "state": "Succeeded", "attempt": 0, "disruptions": 0, "finishedAt": moment}
    digest = digests.of_bytes(b"pairs")
    condition = {"type": "Ready", "status": "True", "reason": "Ingested", "message": "1 pair"}
    status: dict[str, Any] = {
        "observedGeneration": 1,
        "ingest": ingest,
        "rows": {"read": 1, "invalid": 0, "kept": 1},
        "revision": {"number": 1, "uri": "pvc://data/store/1", "digest": digest, "at": moment},
        "conditions": [{**condition, "observedGeneration": 1, "lastTransitionTime": moment}],
    }
    path = namespace.path(VERSION, DATASET.plural, "feedback") + "/status"
    namespace.client.patch(path, {"status": status})


def test_a_target_that_drifts_is_repaired(start: Start, namespace: Namespace) -> None:
    target = {"configMap": {"name": "served", "key": "uri"}}
    manifest = cycle("support", namespace.name, promotion={"targets": [target]})
    del manifest["metadata"]["annotations"]
    namespace.apply(manifest)
    digest = digests.of_bytes(b"m1")
    promoted = {"iteration": 1, "uri": "pvc://models/m1", "digest": digest, "at": "2026-11-23T03:00:00Z"}
    path = namespace.path(VERSION, CYCLE.plural, "support") + "/status"
    namespace.client.patch(path, {"status": {"promoted": promoted}})
    start()

    def points_there(it: Manifest) -> bool:
        return bool(it.get("data", {}).get("uri") == "pvc://models/m1")

    version, plural = CONFIG_MAP.api_version, CONFIG_MAP.plural
    namespace.wait(version, plural, "served", points_there, "it is pointed", SECONDS)
    namespace.kubectl("patch", "configmap", "served", "--type=merge", "-p", '{"data":{"uri":"elsewhere"}}')
    namespace.wait(version, plural, "served", points_there, "it is pointed again", SECONDS)


def test_it_waits_for_kinds_that_the_cluster_does_not_know(
    new_bed: Callable[..., Any], tmp_path: Path
) -> None:
    bed = new_bed()
    operator = process(bed.kubeconfig, tmp_path / "operator.log")
    operator.start()
    try:
        said = "kubectl apply -f crds/"
        wait_until(lambda: operator.log.exists() and said in operator.log.read_text(), "it says so", SECONDS)
        with Client(bed.kubeconfig) as client:
            client.kubectl("apply", "-f", str(Path(__file__).parents[2] / "crds"))
            wait_until(lambda: _serves(client, operator), "it serves", SECONDS)
    finally:
        operator.stop()


def _serves(client: Client, operator: Child) -> bool:
    operator.check()
    if not client.try_kubectl("get", "alignmentcycle", "support").returncode:
        stages = client.kubectl("get", "acyc", "support", "-o", "jsonpath={.status.iteration.stage}")
        return stages == "sample"
    client.try_kubectl("apply", "-f", "-", stdin=json.dumps(cycle("support", "default")))
    return False


def test_without_a_cluster_it_says_what_to_set(tmp_path: Path) -> None:
    env = os.environ | {"KUBECONFIG": str(tmp_path / "none")}
    result = subprocess.run(OPERATOR, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 1
    assert f"KUBECONFIG names {tmp_path / 'none'}, which is not there" in result.stderr
    assert "Traceback" not in result.stderr

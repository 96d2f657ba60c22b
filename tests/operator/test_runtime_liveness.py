"""A watch that dies in silence is noticed and begun anew; what cannot be mended so fails the probe."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import pytest
import yaml
from aiohttp.test_utils import make_mocked_request

from alignment_operator.api import CYCLE, JOB, Manifest
from alignment_operator.cluster import Cluster
from alignment_operator.runtime.audit import Audit
from alignment_operator.runtime.controller import Controller, Key
from alignment_operator.runtime.hearing import Hearing
from alignment_operator.runtime.metrics import Live, Metrics
from alignment_operator.runtime.probes import Probes
from alignment_operator.runtime.work_queue import WorkQueue
from tests.cluster.client import Client, Namespace
from tests.cluster.processes import Child, free_ports
from tests.cluster.waiting import wait_until
from tests.operator.edges import SETTINGS, OnApi, cycle
from tests.operator.proxy import Proxy

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

SECONDS = 90.0
PROGRAM = """
import asyncio, sys
from alignment_operator.observed import Settings
from alignment_operator.runtime import operator
namespace, port = sys.argv[1:]
options = operator.Options(Settings("busybox"), [namespace], int(port), silence_seconds=3.0)
asyncio.run(operator.run(options))
"""

_get = build_opener(ProxyHandler({})).open  # never through a proxy of this machine


@pytest.fixture
def proxy(cluster: Client) -> Iterator[Proxy]:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    port = urlsplit(config["clusters"][0]["cluster"]["server"]).port
    assert port is not None
    with Proxy(port) as running:
        yield running


@pytest.fixture
def operator(
    cluster: Client, crds: None, namespace: Namespace, proxy: Proxy, tmp_path: Path
) -> Iterator[str]:
    """The URL of its probes."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    argv = [sys.executable, "-c", PROGRAM, namespace.name, str(port)]
    child = Child("operator", argv, tmp_path / "operator.log", os.environ | {"KUBECONFIG": str(kubeconfig)})
    child.start()
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: answers(f"{url}/readyz"), "it is ready", SECONDS)
    yield url
    child.stop()


def answers(url: str) -> bool:
    try:
        return bool(_get(url, timeout=10).status == 200)
    except (HTTPError, OSError):
        return False


def job_of(namespace: Namespace, name: str) -> Sequence[Manifest]:
    return namespace.list(JOB.api_version, JOB.plural, f"alignment.dev/cycle={name}")


def test_a_watch_that_went_silent_is_begun_anew(operator: str, namespace: Namespace, proxy: Proxy) -> None:
    namespace.apply(cycle("before", namespace.name))
    wait_until(lambda: job_of(namespace, "before"), "it hears", SECONDS)
    assert proxy.silence() > 3
    namespace.apply(cycle("after", namespace.name))
    (job,) = wait_until(lambda: job_of(namespace, "after"), "it hears again", SECONDS)
    namespace.kubectl("delete", "job", job["metadata"]["name"], "--wait=false")
    wait_until(lambda: job_of(namespace, "after") not in ([], [job]), "of Jobs too", SECONDS)
    assert answers(f"{operator}/healthz")


def test_the_audit_finds_what_nobody_told_of(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        controller = Controller(api, SETTINGS, lambda *_: [], Metrics("0", lambda: Live(0, 0.0, {})))
        audit = Audit(api, controller, CYCLE, [namespace.name])
        made = await api.create(CYCLE, cycle("support", namespace.name))
        await audit.look()
        before = audit.synced.is_set()
        controller.heard_of_cycle(made, deleted=False)
        await audit.look()
        assert (before, audit.synced.is_set()) == (False, True), "one was there that was never heard of"
        key = await controller.queue.take()
        controller.queue.done(key)

        audit.hearing.heard_at = 0.0
        await api.merge(CYCLE, namespace.name, "support", {"metadata": {"labels": {"x": "y"}}})
        await audit.look()
        assert audit.hearing.heard_at > 0, "it may be on its way"
        assert await controller.queue.take() == Key(CYCLE, namespace.name, "support")
        audit.hearing.heard_at = 0.0
        await audit.look()
        assert not audit.hearing.heard_at, "it was not: the watch is deaf"

    on_api(work)


def test_the_audit_lets_go_of_what_was_deleted_unheard(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        metrics = Metrics("0", lambda: Live(0, 0.0, {}))
        controller = Controller(api, SETTINGS, lambda *_: [], metrics)
        audit = Audit(api, controller, CYCLE, [namespace.name])
        made = await api.create(CYCLE, cycle("support", namespace.name))
        controller.heard_of_cycle(made, deleted=False)
        await audit.look()
        controller.queue.done(await controller.queue.take())
        await api.delete(CYCLE, namespace.name, "support", made["metadata"]["uid"])
        await audit.look()
        worker = asyncio.create_task(controller.work())  # a pass over it finds that it is gone
        async with asyncio.timeout(SECONDS):
            while controller.unheard(CYCLE, {}):  # noqa: ASYNC110 - the pass tells nobody
                await asyncio.sleep(0.02)
        worker.cancel()
        assert b'cycle="support"' not in await scraped(metrics)

    on_api(work)


async def scraped(metrics: Metrics) -> bytes:
    body = (await metrics.serve(make_mocked_request("GET", "/metrics"))).body
    assert isinstance(body, bytes)
    return body


def probed(probes: Probes) -> tuple[int, str]:
    async def ask() -> tuple[int, str]:
        response = await probes.healthz(make_mocked_request("GET", "/healthz"))
        return response.status, response.text or ""

    return asyncio.run(ask())


def probes(hearing: Hearing, queue: WorkQueue[str], unsynced: list[str], still_seconds: float) -> Probes:
    return Probes(lambda: [("jobs", hearing)], queue, lambda: unsynced, still_seconds)


def test_a_watch_that_neither_hears_nor_fails_fails_the_probe() -> None:
    hearing, queue = Hearing(), WorkQueue[str]()
    assert probed(probes(hearing, queue, [], 60))[0] == 200
    status, said = probed(probes(hearing, queue, [], 0))
    assert (status, said[:26]) == (503, "nothing was heard of jobs ")
    hearing.tried()
    assert probed(probes(hearing, queue, [], 60))[0] == 200


def test_a_key_that_nobody_takes_fails_the_probe_once_the_caches_are_there() -> None:
    async def stuck() -> WorkQueue[str]:
        queue = WorkQueue[str]()
        queue.add("support")
        return queue

    queue = asyncio.run(stuck())
    calm = Hearing()
    calm._turned = float("inf")
    assert probed(probes(calm, queue, ["jobs"], 0))[0] == 200
    status, said = probed(probes(calm, queue, [], 0))
    assert (status, said[:9]) == (503, "an object")


def test_readiness_waits_for_the_caches() -> None:
    async def ask(unsynced: list[str]) -> tuple[int, str]:
        asked = probes(Hearing(), WorkQueue[str](), unsynced, 60)
        response = await asked.readyz(make_mocked_request("GET", "/readyz"))
        return response.status, response.text or ""

    assert asyncio.run(ask(["jobs"])) == (503, "jobs were not listed yet\n")
    assert asyncio.run(ask([])) == (200, "ok\n")

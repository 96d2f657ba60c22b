"""Workers are asked how far they are: the operator reads what they serve, seldom, and only from who was asked."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from alignment_api.cycle_status import StageProgress
from alignment_api.stage import Stage
from alignment_api.telemetry import ADDRESS_VARIABLE
from alignment_operator.api import Kind, Manifest
from alignment_operator.cluster import Cluster
from alignment_operator.runtime.progress import ProgressReader, Worker, progress_of, together, worker_of
from alignment_worker.progress import Progress
from alignment_worker.telemetry import served
from tests.cluster.processes import free_ports

SECONDS = 20.0
EVERY = 0.1
JOB: Manifest = {"metadata": {"name": "j", "namespace": "team", "uid": "u"}, "status": {"ready": 1}}
WORKER = Worker("http://10.0.0.7:9464/progress", "j-abc", "gpu-1")
SAID = {"host": "j-abc", "done": 85, "total": 345, "unit": "prompts", "secondsLeft": 25.6}


def pod(port: int = 9464, **changes: Any) -> Manifest:
    spec = {
        "nodeName": "gpu-1",
        "containers": [{"name": "worker", "ports": [{"name": "metrics", "containerPort": port}]}],
        **changes.pop("spec", {}),
    }
    status = {"phase": "Running", "podIP": "127.0.0.1", **changes.pop("status", {})}
    return {"metadata": {"name": socket.gethostname()}, "spec": spec, "status": status}


class Pods(Cluster):
    """Knows the pods of the Job, and how often it was asked for them."""

    def __init__(self, pods: list[Manifest]) -> None:
        self.pods = pods
        self.asked = 0

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Manifest]:
        self.asked += 1
        return self.pods


def read(pods: list[Manifest], until: Any, every_seconds: float = EVERY) -> tuple[ProgressReader, int]:
    """The reader when `until` holds of it, and how often it told of a change."""

    async def work() -> tuple[ProgressReader, int]:
        told: list[Manifest] = []
        reader = ProgressReader(Pods(pods), lambda: [JOB], told.append, every_seconds)
        task = asyncio.create_task(reader.run())
        try:
            async with asyncio.timeout(SECONDS):
                while not until(reader):  # noqa: ASYNC110 - what holds is in another thread
                    await asyncio.sleep(0.02)
        finally:
            task.cancel()
        return reader, len(told)

    return asyncio.run(work())


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> int:
    (port,) = free_ports(1)
    monkeypatch.setenv(ADDRESS_VARIABLE, f"127.0.0.1:{port}")
    return port


def test_what_a_worker_serves_is_what_is_read(address: int) -> None:
    progress = Progress()
    with served(Stage.SAMPLE, progress):
        progress.begin(345, "prompts")
        progress.advance(85)
        reader, _ = read([pod(address)], lambda reader: reader.of("u"))
    said = reader.of("u")
    assert said is not None
    assert (said.done, said.total, said.unit, said.node) == (85, 345, "prompts", "gpu-1")
    assert said.seconds_left is not None


def test_only_a_worker_that_got_further_is_told_of(address: int) -> None:
    progress = Progress()
    with served(Stage.SAMPLE, progress):
        progress.begin(10, "prompts")
        progress.advance(1)
        seen: list[StageProgress] = []

        def thrice(reader: ProgressReader) -> bool:
            said = reader.of("u")
            if said and (not seen or seen[-1] is not said):
                seen.append(said)  # read anew
            return len(seen) >= 3

        _, told = read([pod(address)], thrice)
    assert told == 1


@pytest.fixture
def liar() -> Iterator[tuple[HTTPServer, dict[str, bytes]]]:
    """Serves what the test says."""
    body = {"/progress": b""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body["asked"] = b"yes"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body[self.path])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            """Nobody reads it."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server, body
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 900,
        b"{}" + b" " * 2000,
        json.dumps({**SAID, "host": "another pod"}).encode(),
        json.dumps({**SAID, "host": socket.gethostname(), "done": -1}).encode(),
        json.dumps({**SAID, "host": socket.gethostname(), "unit": "x" * 33}).encode(),
    ],
)
def test_what_is_no_progress_of_the_pod_that_was_asked_is_passed_over(
    liar: tuple[HTTPServer, dict[str, bytes]], body: bytes
) -> None:
    server, said = liar
    said["/progress"] = body
    reader, told = read([pod(server.server_port)], lambda _: "asked" in said)
    assert reader.of("u") is None
    assert told == 0


def test_a_worker_that_does_not_answer_is_left_alone_for_a_while() -> None:
    (nobody,) = free_ports(1)
    cluster = Pods([pod(nobody)])

    async def work() -> None:
        reader = ProgressReader(cluster, lambda: [JOB], lambda _: None, EVERY)
        task = asyncio.create_task(reader.run())
        async with asyncio.timeout(SECONDS):
            while not cluster.asked:  # noqa: ASYNC110 - the reader tells nobody
                await asyncio.sleep(0.02)
        await asyncio.sleep(5 * EVERY)
        task.cancel()

    asyncio.run(work())
    assert cluster.asked == 1


def test_the_seconds_that_are_left_are_whole_and_nothing_is_said_of_a_total_that_nobody_knows() -> None:
    assert progress_of(SAID, WORKER) == StageProgress(
        done=85, total=345, unit="prompts", seconds_left=26, node="gpu-1"
    )
    unknown = progress_of({**SAID, "total": 0, "secondsLeft": None}, WORKER)
    assert unknown == StageProgress(done=85, unit="prompts", node="gpu-1")
    assert progress_of({**SAID, "unit": ""}, WORKER) is None, "it has not begun"


@pytest.mark.parametrize("field", ["done", "total", "secondsLeft"])
@pytest.mark.parametrize("number", [float("inf"), float("nan"), 1e300, 2**63])
def test_a_number_that_no_status_can_hold_is_no_progress(field: str, number: float) -> None:
    assert progress_of({**SAID, field: number}, WORKER) is None


def test_trouble_with_one_job_does_not_end_the_reader(address: int, caplog: pytest.LogCaptureFixture) -> None:
    other: Manifest = {**JOB, "metadata": JOB["metadata"] | {"uid": "broken", "name": "broken"}}

    def changed(job: Manifest) -> None:
        if job is other:
            raise ZeroDivisionError("of this Job alone")

    async def work() -> StageProgress:
        reader = ProgressReader(Pods([pod(address)]), lambda: [other, JOB], changed, EVERY)
        task = asyncio.create_task(reader.run())
        try:
            async with asyncio.timeout(SECONDS):
                while (said := reader.of("u")) is None or "alone" not in caplog.text:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.02)
            first = said
            async with asyncio.timeout(SECONDS):
                while reader.of("u") is first:  # noqa: ASYNC110 - the reader tells nobody
                    await asyncio.sleep(0.02)
        finally:
            task.cancel()
        return said

    progress = Progress()
    with served(Stage.SAMPLE, progress):
        progress.begin(345, "prompts")
        assert asyncio.run(work()).total == 345


def test_shards_add_up_and_the_slowest_says_how_long() -> None:
    first = StageProgress(done=5, total=10, unit="prompts", seconds_left=7, node="a")
    second = StageProgress(done=1, total=10, unit="prompts", seconds_left=9, node="b")
    done = StageProgress(done=6, total=20, unit="prompts", seconds_left=9, node="a and 1 more")
    assert together([first, second]) == done
    other = StageProgress(done=3, total=3, unit="inputs")
    assert together([first, other]) == first


def test_only_a_pod_that_runs_and_has_the_port_is_asked() -> None:
    assert worker_of(pod(status={"phase": "Pending"})) is None
    assert worker_of(pod(status={"podIP": ""})) is None
    assert worker_of(pod(spec={"containers": [{"name": "worker"}]})) is None
    found = worker_of(pod(status={"podIP": "fd00::7"}, spec={"hostname": "support-0"}))
    assert found == Worker("http://[fd00::7]:9464/progress", "support-0", "gpu-1")

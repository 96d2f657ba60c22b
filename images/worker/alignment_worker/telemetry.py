"""Progress and metrics of the running stage over HTTP, on a cluster. A stage never fails for want of being watched."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from alignment_api import telemetry
from alignment_api.stage import Stage
from alignment_worker.progress import Progress

_REQUEST_SECONDS = 5.0


@contextmanager
def served(stage: Stage, progress: Progress) -> Iterator[None]:
    """While the context lasts, at $ALIGNMENT_METRICS_ADDRESS; without it, nothing."""
    server = _listening(os.environ.get(telemetry.ADDRESS_VARIABLE, ""), stage, progress)
    if server is None:
        yield
        return
    thread = threading.Thread(target=server.serve_forever, name="telemetry", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _listening(address: str, stage: Stage, progress: Progress) -> ThreadingHTTPServer | None:
    if not address:
        return None
    host, _, port = address.rpartition(":")
    try:
        return _Server(host, int(port), stage, progress)
    except (OSError, ValueError) as error:
        print(f"no progress and no metrics are served at {address}: {error}", file=sys.stderr)
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, stage: Stage, progress: Progress) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.progress = progress
        self.registry = CollectorRegistry()
        self.registry.register(_Stage(stage, progress))
        ProcessCollector(registry=self.registry)
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    server: _Server

    def do_GET(self) -> None:
        if self.path == telemetry.METRICS_PATH:
            self._say(generate_latest(self.server.registry), CONTENT_TYPE_LATEST)
        elif self.path == telemetry.PROGRESS_PATH:
            said = {"host": socket.gethostname(), **self.server.progress.told()}
            said["secondsLeft"] = said.pop("seconds_left")
            self._say(json.dumps(said).encode(), "application/json")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _say(self, body: bytes, kind: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """The log is the stage's."""


class _Stage(Collector):
    """`progress` is written by the stage's thread alone; what is read here may be a moment old."""

    def __init__(self, stage: Stage, progress: Progress) -> None:
        self._stage = stage.value
        self._progress = progress

    def collect(self) -> Iterable[Metric]:
        counts = self._progress.counts
        for name, help_ in (
            ("tokens", "Tokens generated (sample, evaluate) or trained on (reward, train)."),
            ("judgements", "Answers that a judge has scored."),
            ("steps", "Optimizer steps."),
        ):
            family = CounterMetricFamily(f"alignment_worker_{name}", help_, labels=["stage"])
            family.add_metric([self._stage], counts[name])
            yield family
        told = self._progress.told()
        ratio = GaugeMetricFamily(
            "alignment_worker_progress_ratio",
            "Share of the running part of the stage that is done, from 0 to 1.",
            labels=["stage"],
        )
        if told["total"]:
            ratio.add_metric([self._stage], min(1.0, told["done"] / told["total"]))
        yield ratio

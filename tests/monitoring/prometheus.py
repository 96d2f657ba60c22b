"""A real Prometheus that scrapes an operator and its workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import yaml

from tests.cluster.processes import Child, free_ports
from tests.cluster.waiting import wait_until
from tests.monitoring.programs import program

CHART = Path(__file__).parents[2] / "charts" / "alignment-operator"
ALERTS = CHART / "files" / "alerts.yaml"
DASHBOARD = CHART / "files" / "dashboard.json"

_get = build_opener(ProxyHandler({})).open  # never through a proxy of this machine


class Prometheus:
    """Scrapes every second. A context: it ends with it."""

    def __init__(self, folder: Path, operator_port: int, workers: Callable[[], list[str]]) -> None:
        """`workers` gives HOST:PORT of every worker that runs now."""
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._found = _Found(workers)
        config = folder / "prometheus.yaml"
        config.write_text(yaml.safe_dump(_config(operator_port, self._found.url)))
        argv = [
            str(program("prometheus")),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        self._process = Child("prometheus", argv, folder / "prometheus.log")

    def __enter__(self) -> Self:
        self._found.start()
        self._process.start()
        wait_until(self._ready, "Prometheus is ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()
        self._found.stop()

    def ask(self, path: str, **query: Any) -> Any:
        """`data` of an answer of its HTTP API."""
        with _get(f"{self.url}/api/v1/{path}?{urlencode(query)}", timeout=30) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def _ready(self) -> bool:
        self._process.check()
        try:
            return bool(_get(f"{self.url}/-/ready", timeout=5).status == 200)
        except OSError:
            return False


class _Found:
    """Tells Prometheus of the workers, as its discovery of pods does, which Debian leaves out."""

    def __init__(self, workers: Callable[[], list[str]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps([{"targets": workers(), "labels": {}}]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                """Nobody reads it."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _config(operator_port: int, workers_url: str) -> dict[str, Any]:
    operator = {
        "job_name": "operator",
        "honor_labels": True,
        "static_configs": [{"targets": [f"127.0.0.1:{operator_port}"]}],
    }
    workers = {"job_name": "workers", "http_sd_configs": [{"url": workers_url, "refresh_interval": "1s"}]}
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(ALERTS)],
        "scrape_configs": [operator, workers],
    }

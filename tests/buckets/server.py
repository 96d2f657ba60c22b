"""A server that speaks as S3, as a process; `Faults` stands between it and who reads, and does what a network does."""

from __future__ import annotations

import http.client
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from tests.cluster.processes import free_ports
from tests.cluster.waiting import wait_until
from tests.environments import programs

PINS = Path(__file__).with_name("moto.txt")
BUCKET = "feedback"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI"}
START_SECONDS = 300.0


class Server:
    """It keeps what it is given in memory. `put` and `delete` are what an application does."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [str(programs(PINS) / "moto_server"), "-H", "127.0.0.1", "-p", str(self.port)],
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        wait_until(lambda: self._answers() or None, "the S3 server answers", START_SECONDS)
        made = urllib.request.Request(f"{self.url}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made).close()

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the S3 server ended"
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/moto-api/", timeout=10) as answer:
            return bool(answer.status == 200)
        return False

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def put(self, key: str, data: bytes) -> str:
        """The URI."""
        obstore.put(self._store(), key, data)
        return f"s3://{BUCKET}/{key}"

    def delete(self, key: str) -> None:
        obstore.delete(self._store(), key)

    def _store(self) -> S3Store:
        return S3Store(
            BUCKET,
            config={
                "endpoint": self.url,
                "access_key_id": "anybody",
                "secret_access_key": "anything",
                "region": "us-east-1",
            },
            client_options={"allow_http": True},
        )


@dataclass(frozen=True)
class Asked:
    """A request: `listing` is whether it is one of a bucket, `number` how many of its path there were before."""

    path: str
    number: int
    headers: dict[str, str]

    @property
    def listing(self) -> bool:
        return "list-type" in self.path


@dataclass
class Faults:
    """A context. `act` is asked before each request is passed on, and may answer itself, with a status.

    `break_at`: after so many bytes the answer of an object breaks off, as often as `breaks` says.
    """

    server: Server
    act: Callable[[Asked], int | None] = lambda _: None
    break_at: int | None = None
    breaks: int = 0
    seconds_between_pieces: float = 0.0
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Faults:
        faults = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                faults.handle(self)

            do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

            def log_message(self, *_arguments: object) -> None:
                pass

        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._httpd.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._httpd.server_port}"
        self._lock = threading.Lock()
        threading.Thread(target=self._httpd.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            before = sum(each.path == request.path for each in self.asked)
            asked = Asked(
                request.path, before, {name.lower(): each for name, each in request.headers.items()}
            )
            self.asked.append(asked)
        status = self.act(asked)
        if status is not None:
            body = f"<Error><Code>Told{status}</Code><Message>as told</Message></Error>".encode()
            self._answer(request, status, {}, body)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        connection.request(request.command, request.path, headers=dict(request.headers))
        answer = connection.getresponse()
        told = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in ("connection", "transfer-encoding", "date", "server")
        }
        self._answer(request, answer.status, told, answer.read(), breakable=not asked.listing)
        connection.close()

    def _answer(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        headers: dict[str, Any],
        body: bytes,
        *,
        breakable: bool = False,
    ) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        cut = breakable and self.break_at is not None and self.breaks > 0 and len(body) > self.break_at
        with suppress(OSError):
            for start in range(0, len(body), 1 << 16):
                end = min(start + (1 << 16), self.break_at or 0) if cut else start + (1 << 16)
                request.wfile.write(body[start:end])
                time.sleep(self.seconds_between_pieces)
                if cut and start + (1 << 16) >= (self.break_at or 0):
                    self.breaks -= 1
                    request.close_connection = True
                    request.connection.close()
                    return

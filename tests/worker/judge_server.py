"""A scripted endpoint that speaks OpenAI's chat completions, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """To one request: an HTTP status with headers, and the reply's text or a whole body."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    refusal: str | None = None
    body: str | None = None


@dataclass
class Asked:
    """One request: its body, the data that was to be judged, and the key that came along."""

    body: Json
    key: str

    @property
    def data(self) -> Json:
        found: Json = json.loads(self.body["messages"][1]["content"])
        return found


class JudgeServer(ThreadingHTTPServer):
    """`answer` is called with each request; the number of requests under way at once is kept."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Asked], Answer | str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self.lock = threading.Lock()
        self.under_way = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: JudgeServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answers `/v1/chat/completions`."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = Asked(body, self.headers.get("Authorization", "").removeprefix("Bearer "))
        with self.server.lock:
            self.server.asked.append(asked)
            self.server.under_way += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.under_way)
        try:
            said = (
                self.server.answer(asked)
                if self.path == "/v1/chat/completions"
                else Answer(status=404, body="{}")
            )
        finally:
            with self.server.lock:
                self.server.under_way -= 1
        self._send(Answer(said) if isinstance(said, str) else said)

    def _send(self, said: Answer) -> None:
        message = {"role": "assistant", "content": said.text, "refusal": said.refusal}
        whole = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 0,
            "model": "scripted",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100},
        }
        data = (json.dumps(whole) if said.body is None else said.body).encode()
        self.send_response(said.status)
        for name, value in {"Content-Type": "application/json", **said.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


@contextmanager
def judge_server(answer: Callable[[Asked], Answer | str]) -> Iterator[JudgeServer]:
    """One that runs while the context is open."""
    server = JudgeServer(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def preferred(word: str) -> str:
    return json.dumps({"preferred": word})


def longer(asked: Asked) -> str:
    """Prefers the answer with more characters, as a judge with length bias does."""
    a, b = (len(asked.data[name]) for name in ("answer_a", "answer_b"))
    return preferred("tie" if a == b else "a" if a > b else "b")

"""A small server that speaks vLLM's `POST /v1/completions` by ids, on the worker's own way of drawing tokens.

`python -m tests.worker.completions_server` takes those of vLLM's arguments that the operator gives.
https://github.com/vllm-project/vllm/blob/main/vllm/entrypoints/openai/completion/protocol.py
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from alignment_worker import models
from alignment_worker.generate import Completion, Decoding, generate
from alignment_worker.models import LanguageModel

Json = dict[str, Any]


class RefusedError(Exception):
    """What the server will not do: HTTP status and words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class CompletionsServer(ThreadingHTTPServer):
    """Serves one model. `answered` may replace an answer, or raise RefusedError; `asked` are the requests so far."""

    daemon_threads = True

    def __init__(self, host: str, port: int, model: Path, name: str, longest: int | None = None) -> None:
        super().__init__((host, port), _Handler)
        self.policy: LanguageModel = models.load_policy("policy", model)
        self.name = name
        self.longest = longest or self.policy.max_positions or 1 << 20
        self.asked: list[Json] = []
        self.answered: Callable[[Json], Json | str] = lambda answer: answer
        self._turn = threading.Lock()

    def answer(self, request: Json) -> Json | str:
        self.asked.append(request)
        if request["model"] != self.name:
            raise RefusedError(404, f"The model `{request['model']}` does not exist.")
        needed = len(request["prompt"]) + request["max_tokens"]
        if needed > self.longest:
            raise RefusedError(
                400, f"This model's maximum context length is {self.longest} tokens, not {needed}."
            )
        decoding = Decoding(
            samples=request["n"],
            temperature=request["temperature"],
            top_p=request["top_p"],
            max_new_tokens=request["max_tokens"],
            seed=request["seed"],
        )
        with self._turn:
            (drawn,) = generate(self.policy, [request["prompt"]], [0], decoding)
        choices = [_choice(index, request["prompt"], each) for index, each in enumerate(drawn)]
        return self.answered({"object": "text_completion", "model": self.name, "choices": choices})


def _choice(index: int, prompt: list[int], drawn: Completion) -> Json:
    return {
        "index": index,
        "text": "",
        "finish_reason": "length" if drawn.truncated else "stop",
        "prompt_token_ids": prompt,
        "token_ids": drawn.ids,
        "logprobs": {
            "tokens": [f"token_id:{each}" for each in drawn.ids],
            "token_logprobs": drawn.log_probs,
        },
    }


class _Handler(BaseHTTPRequestHandler):
    server: CompletionsServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._say(200, {"object": "list", "data": [{"id": self.server.name, "object": "model"}]})
        else:
            self._say(404, {"error": "Not Found"})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            self._say(200, self.server.answer(request))
        except RefusedError as refused:
            self._say(refused.status, {"error": {"message": str(refused), "code": refused.status}})

    def _say(self, status: int, said: Json | str) -> None:
        body = (said if isinstance(said, str) else json.dumps(said)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError):  # who asked has given up
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Nobody reads it."""


@contextmanager
def serving(model: Path, longest: int | None = None) -> Iterator[CompletionsServer]:
    """In this process, at a free port, as long as the context lasts."""
    server = CompletionsServer("127.0.0.1", 0, model, "policy", longest)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--generation-config", choices=["vllm"], required=True)
    parser.add_argument("--max-model-len", type=int)
    given = parser.parse_args()
    CompletionsServer(
        given.host, given.port, given.model, given.served_model_name, given.max_model_len
    ).serve_forever()


if __name__ == "__main__":
    main()

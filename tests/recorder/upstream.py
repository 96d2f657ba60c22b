"""A small OpenAI-compatible server, told by the prompt what to do."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from types import TracebackType
from typing import Any

from aiohttp import web

from tests.cluster.processes import free_ports


def completion(answer: str, number: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer}
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }


def chunks(answer: str, number: int) -> list[dict[str, Any]]:
    same = {"id": f"chatcmpl-{number}", "object": "chat.completion.chunk", "created": 1, "model": "served"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in re.findall(r"\S+\s*", answer)]
    told = [{**same, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    told.append({**same, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return told


class Upstream:
    """In a thread of its own. `seen`: the requests; `go`: what a streamed answer to "wait" waits for."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.seen: list[tuple[web.BaseRequest, bytes]] = []
        self.cancelled = threading.Event()
        self.go = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Upstream:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.go.set()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append((request, body))
        if request.path != "/v1/chat/completions":
            return web.Response(body=body or b"hello", headers={"X-Served": "yes", "X-Path": request.path_qs})
        asked = json.loads(body)
        said = asked["messages"][-1]["content"]
        number = len(self.seen)
        if said == "fail":
            return web.json_response({"error": {"message": "no"}}, status=429, headers={"Retry-After": "7"})
        if said == "nonsense":
            return web.Response(body=b"\xff not JSON", content_type="application/json")
        answer = "x" * int(said[5:]) if said.startswith("long ") else f"you said {said}"
        if not asked.get("stream"):
            return web.json_response(completion(answer, number))
        return await self._stream(request, said, chunks(answer, number))

    async def _stream(
        self, request: web.Request, said: str, told: list[dict[str, Any]]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        try:
            for index, chunk in enumerate(told):
                await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
                if index == 1 and said == "wait":
                    await asyncio.to_thread(self.go.wait, 30)
                if index == 1 and said == "break":
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                if index == 1 and said == "hang":
                    await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        await response.write(b"data: [DONE]\n\n")
        if said == "linger":
            await asyncio.sleep(30)
        return response

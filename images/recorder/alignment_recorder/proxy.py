"""The pass-through: every request goes to the server and its answer comes back as it is, at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from alignment_recorder import metrics
from alignment_recorder.exchange import RECORDED, Exchange
from alignment_recorder.log import Feedback, Log

FEEDBACK = "/v1/feedback"
_HOP_BY_HOP = frozenset(  # RFC 9110, 7.6.1
    (
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# Below the 5 s after which uvicorn, and so vLLM, ends an idle connection.
_IDLE_SECONDS = 2.0
_Body = bytes | aiohttp.StreamReader | AsyncIterator[bytes]


@dataclass(frozen=True)
class ProxyOptions:
    """`upstream`: the server's address without a path; `max_bytes`: of a request or an answer that is logged."""

    upstream: URL
    digest_file: Path | None = None
    max_bytes: int = 8 << 20


class Proxy:
    """Answers of RECORDED paths are offered to the log when they have been passed on."""

    def __init__(self, options: ProxyOptions, log: Log) -> None:
        self._options = options
        self._log = log
        self._digest = _File(options.digest_file)

    def application(self) -> web.Application:
        app = web.Application(client_max_size=0)
        app.cleanup_ctx.append(self._connected)
        app.router.add_post(FEEDBACK, self._feedback)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        return app

    async def _connected(self, _app: web.Application) -> AsyncIterator[None]:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        yield
        await self._session.close()

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        recording = self._recording(request)
        body: _Body = request.content
        if recording is not None and recording.lost is None:
            body = await _read(request.content, self._options.max_bytes)
            if isinstance(body, bytes):
                recording.request = body
            else:
                recording.lost = "too_long"
        try:
            upstream = await self._asked(request, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            metrics.UPSTREAM_ERRORS.inc()
            return _failed(502, f"{self._options.upstream} cannot be reached: {error}")
        async with upstream:
            try:
                return await _passed_back(request, upstream, recording)
            finally:
                if recording is not None:
                    recording.end(self._log)

    def _recording(self, request: web.Request) -> _Recording | None:
        if request.method != "POST" or request.path not in RECORDED:
            return None
        recording = _Recording(request.path, self._digest.text(), self._options.max_bytes)
        if (request.content_length or 0) > self._options.max_bytes:
            recording.lost = "too_long"
        return recording

    async def _asked(self, request: web.Request, body: _Body) -> aiohttp.ClientResponse:
        """Once more if an idle connection was closed under us, which before any answer leaves nothing half done."""
        headers = _end_to_end(request.headers)
        headers.popall("Host", None)
        headers["Accept-Encoding"] = "identity"
        # Put together, not joined: a path of `//other` would name another server.
        url = URL(f"{self._options.upstream.origin()}{request.rel_url.raw_path_qs}", encoded=True)
        data = body if isinstance(body, bytes) or request.body_exists else None

        async def ask() -> aiohttp.ClientResponse:
            return await self._session.request(
                request.method, url, headers=headers, data=data, allow_redirects=False
            )

        try:
            return await ask()
        except aiohttp.ServerDisconnectedError:
            if data is not None and not isinstance(data, bytes):
                raise
            return await ask()

    async def _feedback(self, request: web.Request) -> web.Response:
        body = await _read(request.content, self._options.max_bytes)
        if not isinstance(body, bytes):
            return _failed(413, f"feedback has at most {self._options.max_bytes} bytes")
        try:
            said = json.loads(body)
        except (ValueError, RecursionError):
            said = None
        problem = _problem(said)
        if problem:
            return _failed(400, problem)
        if not self._log.offer(Feedback(said["id"], _now(), said.get("rating"), said.get("edit"))):
            return _failed(503, "the log is behind; try again")
        return web.Response(status=202)


async def _read(content: aiohttp.StreamReader, most: int) -> _Body:
    """All of it, or what gives all of it if it is longer; a client that sends chunks does not say."""
    parts, size = [], 0
    async for part in content.iter_any():
        parts.append(part)
        size += len(part)
        if size > most:
            return _chained(parts, content)
    return b"".join(parts)


async def _chained(parts: list[bytes], content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    async for part in content.iter_any():
        yield part


class _Recording:
    """An answer while it is passed on; `lost` says why it will not be in the log."""

    def __init__(self, path: str, digest: str | None, room: int) -> None:
        self.request = b""
        self.streamed = False
        self.lost: str | None = None
        self._path, self._at, self._digest = path, _now(), digest
        self._parts: list[bytes] = []
        self._room = room

    def begin(self, upstream: aiohttp.ClientResponse) -> None:
        self.streamed = upstream.content_type == "text/event-stream"
        if upstream.status != HTTPStatus.OK:
            self.lost = "failed"

    def add(self, part: bytes) -> None:
        if self.lost is None:
            self._parts.append(part)
            self._room -= len(part)
            if self._room < 0:
                self.lost = "too_long"
                self._parts.clear()

    def break_off(self) -> None:
        """A client may leave at the stream's last word, as OpenAI's own does, before the connection has ended."""
        if not (self.streamed and b"".join(self._parts).rstrip().endswith(b"[DONE]")):
            self.lost = "unfinished"

    def end(self, log: Log) -> None:
        if self.lost is not None:
            metrics.LEFT_OUT.labels(self.lost).inc()
            return
        answer = b"".join(self._parts)
        log.offer(Exchange(self._path, self._at, self._digest, self.request, answer, self.streamed))


async def _passed_back(
    request: web.Request, upstream: aiohttp.ClientResponse, recording: _Recording | None
) -> web.StreamResponse:
    answer = web.StreamResponse(
        status=upstream.status, reason=upstream.reason, headers=_end_to_end(upstream.headers)
    )
    if recording is not None:
        recording.begin(upstream)
    try:
        await answer.prepare(request)
        async for part in upstream.content.iter_any():
            await answer.write(part)
            if recording is not None:
                recording.add(part)
        await answer.write_eof()
    except (aiohttp.ClientError, ConnectionError, TimeoutError, asyncio.CancelledError) as error:
        if recording is not None:
            recording.break_off()
        if request.transport is not None:
            request.transport.abort()  # an answer that broke off must not look like one that ended
        if isinstance(error, asyncio.CancelledError):
            raise
    return answer


class _File:
    """A short text, read again when the file changed: a ConfigMap's volume swaps its files."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._text: str | None = None

    def text(self) -> str | None:
        """The last one, while the file cannot be read."""
        if self._path is not None:
            with suppress(OSError, UnicodeDecodeError):
                found = self._path.stat()
                if (seen := (found.st_ino, found.st_mtime_ns)) != self._seen:
                    self._text, self._seen = self._path.read_text(encoding="utf-8").strip() or None, seen
        return self._text


def _problem(said: object) -> str:
    if not isinstance(said, dict) or not isinstance(said.get("id"), str) or not said["id"].strip():
        return 'give a JSON object with the `id` of the answer, as {"id": "chatcmpl-…", "rating": "up"}'
    if unknown := set(said) - {"id", "rating", "edit"}:
        return f"`{min(unknown)}` is not known; there are `id`, `rating` and `edit`"
    if said.get("rating") not in (None, "up", "down"):
        return f'`rating` is {said["rating"]!r}; give "up" or "down"'
    if not isinstance(said.get("edit", ""), str):
        return "`edit` is not text; give the answer as it should have been"
    if said.get("rating") is None and said.get("edit") is None:
        return "there is neither `rating` nor `edit`; give one of them"
    return ""


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    kept = CIMultiDict(headers)
    for name in {name for name in kept if name.lower() in _HOP_BY_HOP | named}:
        del kept[name]
    return kept


def _failed(status: int, message: str) -> web.Response:
    """As OpenAI's API words errors."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return web.json_response({"error": {"message": message, "type": kind, "code": None}}, status=status)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

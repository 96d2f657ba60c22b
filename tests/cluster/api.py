"""A thin asynchronous client of the Kubernetes API: plain JSON in, plain JSON out.

The generated client, with its thousand models, would take longer to load than the node takes to start.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

Json = dict[str, Any]

log = logging.getLogger(__name__)

STRATEGIC = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"

_RETRY_SECONDS = 0.2
_GONE = 410


class ApiError(Exception):
    """The API server said no; `status` is the HTTP status, `reason` the one of Kubernetes."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


# What a request raises when the server is away, for instance while it restarts.
Unreachable = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError)


class Api:
    """One connection pool with the credentials of a kubeconfig; use it as an asynchronous context."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        named = {
            kind: {row["name"]: row[kind[:-1]] for row in config[kind]} for kind in ("clusters", "users")
        }
        contexts = {row["name"]: row["context"] for row in config["contexts"]}
        context = contexts[config["current-context"]]
        cluster, user = named["clusters"][context["cluster"]], named["users"][context["user"]]
        self.server: str = cluster["server"].rstrip("/")
        self.ca: str = _inline_or_file(cluster, "certificate-authority")
        self._token: str = user["token"]
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(cadata=self.ca)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            headers={"Authorization": f"Bearer {self._token}"},
            timeout=aiohttp.ClientTimeout(total=20),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, path: str) -> Json | None:
        """The object, or None if there is none."""
        try:
            return await self._call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def create(self, path: str, body: Json) -> Json:
        """POST to a collection or subresource. ApiError 409 if it exists."""
        return await self._call("POST", path, body)

    async def patch(self, path: str, body: Json, content_type: str = STRATEGIC) -> Json:
        """PATCH; what the body does not name stays as it is."""
        return await self._call("PATCH", path, body, content_type)

    async def delete(self, path: str, body: Json | None = None) -> None:
        """DELETE; no error if it is gone or, by the body's preconditions, another one."""
        try:
            await self._call("DELETE", path, body)
        except ApiError as error:
            if error.status not in {404, 409}:
                raise

    async def follow(self, path: str, **params: str) -> AsyncIterator[tuple[str, Json]]:
        """List, then watch, for ever, across restarts of the server.

        Yields ("LISTED", list) after every list, which replaces all that was known before, and then
        ("ADDED" | "MODIFIED" | "DELETED", object) for every change.
        """
        version = ""
        while True:
            try:
                if not version:
                    listed = await self._call("GET", path, params=params)
                    version = listed["metadata"]["resourceVersion"]
                    yield "LISTED", listed
                async for kind, item in self._watch(path, {**params, "resourceVersion": version}):
                    version = item["metadata"]["resourceVersion"]
                    if kind != "BOOKMARK":
                        yield kind, item
            except ApiError as error:
                log.info("watch of %s: %s", path, error)
                version = ""
                await asyncio.sleep(0 if error.status == _GONE else _RETRY_SECONDS)
            except Unreachable:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _watch(self, path: str, params: Mapping[str, str]) -> AsyncIterator[tuple[str, Json]]:
        assert self._session is not None
        query = {**params, "watch": "true", "allowWatchBookmarks": "true"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with self._session.get(self.server + path, params=query, timeout=timeout) as response:
            if response.status != 200:
                raise await _error(response)
            buffer = b""
            # Not line by line: an object may be longer than the limit of aiohttp's line reader.
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise ApiError(
                            status.get("code", 500), status.get("reason", ""), status.get("message", "")
                        )
                    yield event["type"], event["object"]

    async def _call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Json:
        assert self._session is not None
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type} if data else {}
        url = self.server + path
        async with self._session.request(method, url, data=data, headers=headers, params=params) as response:
            if response.status >= 400:
                raise await _error(response)
            answer: Json = await response.json()
            return answer


async def _error(response: aiohttp.ClientResponse) -> ApiError:
    text = await response.text()
    try:
        status = json.loads(text)
    except json.JSONDecodeError:
        status = {}
    return ApiError(response.status, status.get("reason", ""), status.get("message", text))


def _inline_or_file(section: Mapping[str, str], key: str) -> str:
    if data := section.get(f"{key}-data"):
        return base64.b64decode(data).decode()
    return Path(section[key]).read_text()

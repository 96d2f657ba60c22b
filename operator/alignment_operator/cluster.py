"""`Api` on a real API server: paths and JSON, without the generated client's thousand models."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from alignment_api import names
from alignment_operator import impersonation
from alignment_operator.api import (
    POD,
    AlreadyExistsError,
    ConflictError,
    Kind,
    Manifest,
    NotFoundError,
    RefusedError,
)

EVENT = Kind("events.k8s.io/v1", "Event", "events")

CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 30.0
LOG_SECONDS = 300.0  # megabytes, perhaps over a slow line
PAGE = 500
_METADATA_ALONE = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_METADATA_OF_ONE = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_NOTE_BYTES = 1024  # of an Event, by its API
# The server ends a watch after the first; a connection on which nothing came for the second is taken for dead. Both
# are cheap: the next watch goes on from the last version seen.
WATCH_SECONDS = 290
SILENCE_SECONDS = 90.0
_TIMEOUT = aiohttp.ClientTimeout(total=REQUEST_SECONDS)


class NoClusterError(Exception):
    """No credentials of a cluster; the message says where they were looked for."""


class ServerError(Exception):
    """Any other answer than success: the server is overloaded, starting, or does not know us."""


class ExpiredError(Exception):
    """410: what happened since that version is forgotten; list again."""


UNREACHABLE = (aiohttp.ClientError, TimeoutError, ServerError, RefusedError, NotFoundError, OSError)
"""What every method may raise while the server is away, overloaded or not ours yet: try again later."""


async def login() -> Configuration:
    """$KUBECONFIG, else the pod's ServiceAccount, else ~/.kube/config. Raises NoClusterError."""
    configuration = Configuration()
    _require_kubeconfig()
    try:
        if _in_cluster():
            config.load_incluster_config(client_configuration=configuration)
        else:
            loader = await config.load_kube_config(
                _kubeconfig(), client_configuration=configuration, persist_config=False
            )
            if hasattr(loader, "exec_plugin_expiry"):
                configuration.refresh_api_key_hook = partial(_renew, loader)
    except (config.ConfigException, OSError) as error:
        raise NoClusterError(
            f"no cluster to talk to: {error}; set KUBECONFIG, or run in a pod with a ServiceAccount"
        ) from error
    _heed_proxy_variables(configuration)
    return configuration


async def _renew(loader: config.kube_config.KubeConfigLoader, configuration: Configuration) -> None:
    """Before each request: asks the kubeconfig's plugin for another token once the last one has expired."""
    await loader.load_from_exec_plugin()
    configuration.api_key["BearerToken"] = loader.token


def _in_cluster() -> bool:
    return bool(not os.environ.get("KUBECONFIG") and os.environ.get("KUBERNETES_SERVICE_HOST"))


def _kubeconfig() -> str:
    return os.environ.get("KUBECONFIG") or "~/.kube/config"


def _acting_as() -> dict[str, str]:
    try:
        return {} if _in_cluster() else impersonation.headers(_kubeconfig())
    except impersonation.ImpersonationError as error:
        raise NoClusterError(f"no cluster to talk to: {error}") from error


def _require_kubeconfig() -> None:
    """The client takes files that are not there for an empty one."""
    named = os.environ.get("KUBECONFIG", "")
    if named and not any(Path(file).exists() for file in named.split(os.pathsep) if file):
        raise NoClusterError(f"no cluster to talk to: KUBECONFIG names {named}, which is not there")


def _heed_proxy_variables(configuration: Configuration) -> None:
    """Once, and not in a thread before every request, as aiohttp does it."""
    host = urlsplit(configuration.host).hostname or ""
    proxies = {} if proxy_bypass(host) else getproxies()
    configuration.proxy = configuration.proxy or proxies.get(urlsplit(configuration.host).scheme)
    configuration.client_session_kwargs = {"trust_env": False}


@asynccontextmanager
async def connect(silence_seconds: float = SILENCE_SECONDS) -> AsyncIterator[Cluster]:
    """A watch on which nothing comes for `silence_seconds` ends with TimeoutError. Raises NoClusterError."""
    configuration = await login()
    async with ApiClient(configuration) as client:
        for header, value in _acting_as().items():
            client.set_default_header(header, value)
        client.user_agent = names.FIELD_MANAGER  # the server takes the manager of fields from it
        yield Cluster(client, silence_seconds)


class Cluster:
    """See `alignment_operator.api.Api` for what each method promises.

    Besides, every method raises RefusedError, ServerError, and `aiohttp.ClientError` or TimeoutError when the server
    cannot be reached.
    """

    def __init__(self, client: ApiClient, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._client = client
        self._silence = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds
        )

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        try:
            return await self._call("GET", _path(kind, namespace, name))
        except NotFoundError:
            return None

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Manifest]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return [*(await self.list_all(kind, namespace, selector))[0]]

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        path = _path(kind, manifest["metadata"]["namespace"])
        made = await self._call("POST", path, body=manifest, accept=_METADATA_OF_ONE)
        return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": made["metadata"]}

    async def replace_status(self, kind: Kind, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        path = _path(kind, metadata["namespace"], metadata["name"]) + "/status"
        return await self._call("PUT", path, body=manifest)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        path = _path(kind, namespace, name)
        return await self._call("PATCH", path, body=patch, content_type="application/merge-patch+json")

    async def apply(self, kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:
        metadata = manifest["metadata"]
        return await self._call(
            "PATCH",
            _path(kind, metadata["namespace"], metadata["name"]),
            query={"fieldManager": names.FIELD_MANAGER, "force": str(force).lower()},
            body=manifest,
            content_type="application/apply-patch+yaml",
        )

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            await self._call("DELETE", _path(kind, namespace, name), body=options)
        except (NotFoundError, ConflictError):
            return

    async def emit(
        self, owner: Manifest, reason: str, message: str, *, warning: bool, about: str = ""
    ) -> None:
        """An Event has the words that it was made with: the API lets only the count of a series change."""
        event = _event(owner, reason, message, warning=warning, about=about or message)
        try:
            await self.create(EVENT, event)
        except AlreadyExistsError:
            await self._repeat(event["metadata"]["namespace"], event["metadata"]["name"])

    async def list_all(self, kind: Kind, namespace: str, selector: str) -> tuple[Sequence[Manifest], str]:
        """All objects that match a label selector, in one namespace or, if it is empty, in all; and their version."""
        found: Sequence[Manifest] = []
        query = {"labelSelector": selector, "limit": str(PAGE)}
        while True:
            page = await self._call("GET", _path(kind, namespace), query=query)
            found = [*found, *page["items"]]
            token = page["metadata"].get("continue")
            if not token:
                return found, page["metadata"]["resourceVersion"]
            query["continue"] = token

    async def versions(self, kind: Kind, namespace: str) -> AsyncIterator[tuple[str, str, str]]:
        """Namespace, name and resourceVersion of every object; an empty namespace is all of them.

        Raises ExpiredError too, when it takes longer than the server remembers.
        """
        query = {"limit": str(PAGE)}
        while True:
            page = await self._call("GET", _path(kind, namespace), query=query, accept=_METADATA_ALONE)
            for item in page["items"] or ():  # null, where an ordinary list is empty
                metadata = item["metadata"]
                yield metadata["namespace"], metadata["name"], metadata["resourceVersion"]
            token = page["metadata"].get("continue")
            if not token:
                return
            query["continue"] = token

    async def plurals(self, api_version: str) -> set[str]:
        """The kinds that the server knows of a group and version."""
        try:
            found = await self._call("GET", f"/apis/{api_version}")
        except NotFoundError:
            return set()
        return {resource["name"] for resource in found["resources"]}

    async def log(self, namespace: str, pod: str, container: str) -> bytes:
        """What the container has printed. Raises NotFoundError too."""
        path = f"{_path(POD, namespace, pod)}/log"
        patience = aiohttp.ClientTimeout(total=LOG_SECONDS)
        response = await self._request("GET", path, {"container": container}, None, None, patience, "*/*")
        data: bytes = await response.read()
        if response.status >= 400:
            raise _error(response.status, data)
        return data

    async def watch(
        self, kind: Kind, namespace: str, selector: str, version: str, heard: Callable[[], None]
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """What changes from that version on, until the server ends it: (ADDED, MODIFIED, DELETED or BOOKMARK, object).

        `heard` is called whenever the server says something, that it will tell included: of a kind that nobody changes
        it has nothing else to say. Raises ExpiredError too.
        """
        query = {
            "labelSelector": selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        response = await self._request("GET", _path(kind, namespace), query, None, None, self._silence)
        try:
            if response.status >= 400:
                raise _error(response.status, await response.read())
            heard()
            async for line in _lines(response.response.content):
                heard()
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise _error(event["object"].get("code", 500), line)
                yield event["type"], event["object"]
        finally:
            _drop(response.response)

    async def _repeat(self, namespace: str, name: str) -> None:
        event = await self.get(EVENT, namespace, name)
        if event is None:
            return  # it was there a moment ago, and its hour is over
        count = (event.get("series") or {"count": 1})["count"]
        patch = {"series": {"count": count + 1, "lastObservedTime": _micro_time()}}
        await self.merge(EVENT, namespace, name, patch)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Manifest:
        response = await self._request(method, path, query, body, content_type, _TIMEOUT, accept)
        data = await response.read()
        if response.status >= 400:
            raise _error(response.status, data)
        answer: Manifest = json.loads(data)
        return answer

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | None,
        content_type: str | None,
        patience: aiohttp.ClientTimeout,
        accept: str = "application/json",
    ) -> Any:
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": accept} | ({"Content-Type": content_type} if content_type else {}),
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._client.call_api(*request, _request_timeout=patience)


def _path(kind: Kind, namespace: str, name: str = "") -> str:
    root = f"/api/{kind.api_version}" if "/" not in kind.api_version else f"/apis/{kind.api_version}"
    within = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{within}/{kind.plural}" + (f"/{name}" if name else "")


def _drop(response: aiohttp.ClientResponse) -> None:
    """Without TLS's goodbyes, for which nobody would wait."""
    if response.connection is not None and response.connection.transport is not None:
        response.connection.transport.abort()
    response.close()


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """An object may be longer than the stream's own limit for a line."""
    pieces: list[bytes] = []
    async for chunk in stream.iter_any():
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            yield b"".join([*pieces, line])
            pieces.clear()
        pieces.append(rest)


def _error(status: int, data: bytes) -> Exception:
    """https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/"""
    try:
        answer = json.loads(data)
        answer = answer.get("object", answer)
    except ValueError:
        answer = {}
    reason, message = answer.get("reason", ""), answer.get("message", data[:500].decode(errors="replace"))
    if status == 404:
        return NotFoundError(message)
    if status == 409:
        return AlreadyExistsError(message) if reason == "AlreadyExists" else ConflictError(message)
    if status == 410:
        return ExpiredError(message)
    causes = (answer.get("details") or {}).get("causes") or []
    if any(cause.get("field") == "metadata.uid" for cause in causes):
        return ConflictError(message)  # the patch named the UID of another object
    if status in {400, 403, 422}:
        return RefusedError(message)
    return ServerError(f"{status} {reason}: {message}")


def _event(owner: Manifest, reason: str, message: str, *, warning: bool, about: str) -> Manifest:
    metadata = owner["metadata"]
    same = hashlib.sha256(json.dumps([metadata["uid"], reason, about]).encode()).hexdigest()[:16]
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{metadata['name']}.{same}", "namespace": metadata["namespace"]},
        "eventTime": _micro_time(),
        "reportingController": f"alignment.dev/{names.FIELD_MANAGER}",
        "reportingInstance": names.FIELD_MANAGER,
        "action": "Reconcile",
        "reason": reason,
        "regarding": {
            "apiVersion": owner["apiVersion"],
            "kind": owner["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
        "note": message.encode()[:_NOTE_BYTES].decode(errors="ignore"),
        "type": "Warning" if warning else "Normal",
    }


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

"""A synchronous client for tests: plain JSON, any cluster that a kubeconfig can name."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml
from kubernetes import config

from tests.cluster.api import MERGE, ApiError, Json
from tests.cluster.build import binaries
from tests.cluster.waiting import wait_until


class Client:
    """A cluster seen as its admin; use it as a context."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._api = config.new_client_from_config(str(kubeconfig))

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Json:
        """Answer of one request. ApiError if the server refuses."""
        serialized = self._api.param_serialize(method, path, auth_settings=["BearerToken"])
        headers = serialized[2] | {"Content-Type": content_type, "Accept": "application/json"}
        data = None if body is None else json.dumps(body)
        response = self._api.rest_client.pool_manager.request(
            method, serialized[1], body=data, headers=headers
        )
        answer: Json = response.json()
        if response.status >= 400:
            raise ApiError(response.status, answer.get("reason", ""), answer.get("message", ""))
        return answer

    def get(self, path: str) -> Json | None:
        """The object at a path, or None."""
        try:
            return self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def patch(self, path: str, body: Json, content_type: str = MERGE) -> Json:
        """The object after a merge patch, or one of another content type."""
        return self.call("PATCH", path, body, content_type)

    def delete(self, path: str, body: Json | None = None) -> None:
        """Delete; no error if it is not there."""
        try:
            self.call("DELETE", path, body)
        except ApiError as error:
            if error.status != 404:
                raise

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Output of kubectl. AssertionError with what it said if it fails."""
        result = self.try_kubectl(*arguments, stdin=stdin)
        if result.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: exit {result.returncode}\n{result.stderr}")
        return result.stdout

    def try_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """What kubectl said, and its exit code."""
        return subprocess.run(
            [str(binaries()["kubectl"]), *arguments],
            input=stdin,
            env=os.environ | {"KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._api.rest_client.pool_manager.clear()


class Namespace:
    """One test's namespace. Paths and kubectl's arguments are relative to it."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name

    def path(self, version: str, plural: str, name: str = "") -> str:
        """Path of a collection or an object, such as path("batch/v1", "jobs", "train")."""
        root = "/api" if version == "v1" else "/apis"
        return f"{root}/{version}/namespaces/{self.name}/{plural}" + (f"/{name}" if name else "")

    def create(self, plural: str, manifest: Json) -> Json:
        """The object as made from a manifest whose collection is `plural`."""
        return self.client.call("POST", self.path(manifest["apiVersion"], plural), manifest)

    def apply(self, *manifests: Json) -> None:
        """`kubectl apply` manifests."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, version: str, plural: str, name: str) -> Json | None:
        """The object, or None."""
        return self.client.get(self.path(version, plural, name))

    def list(self, version: str, plural: str, selector: str = "") -> Sequence[Json]:
        """Objects, all or those that match a label selector."""
        query = f"?labelSelector={selector}" if selector else ""
        items: list[Json] = self.client.call("GET", self.path(version, plural) + query)["items"]
        return items

    def wait(
        self,
        version: str,
        plural: str,
        name: str,
        holds: Callable[[Json], object],
        what: str,
        seconds: float = 30.0,
    ) -> Json:
        """The object as soon as `holds` says so of it. DeadlineError, with its status, if it never does."""
        last: Json | None = None

        def look() -> Json | None:
            nonlocal last
            last = self.get(version, plural, name)
            return last if last is not None and holds(last) else None

        try:
            return wait_until(look, f"{plural}/{name}: {what}", seconds)
        except AssertionError as error:
            error.add_note(yaml.safe_dump((last or {}).get("status", "no such object")))
            raise

    def pods_of(self, job: str) -> Sequence[Json]:
        """Pods of a Job."""
        return self.list("v1", "pods", f"batch.kubernetes.io/job-name={job}")

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Output of kubectl in this namespace. AssertionError if it fails."""
        return self.client.kubectl("--namespace", self.name, *arguments, stdin=stdin)


def has_condition(kind: str, status: str = "True") -> Callable[[Json], bool]:
    """Whether an object has a condition, for Namespace.wait()."""

    def holds(item: Json) -> bool:
        rows = item.get("status", {}).get("conditions", ())
        return any(row["type"] == kind and row["status"] == status for row in rows)

    return holds


@contextlib.contextmanager
def temporary_namespace(client: Client, title: str) -> Iterator[Namespace]:
    """A namespace whose name begins like `title`, ready for pods; it is deleted, but not waited for."""
    label = re.sub(r"[^a-z0-9]+", "-", title.lower().removeprefix("test_")).strip("-")[:40]
    name = f"{label}-{secrets.token_hex(3)}"
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    client.call("POST", "/api/v1/namespaces", manifest)
    made = Namespace(client, name)
    wait_until(lambda: made.get("v1", "serviceaccounts", "default"), "the namespace has its account")
    wait_until(lambda: made.get("v1", "configmaps", "kube-root-ca.crt"), "the namespace has its CA")
    try:
        yield made
    finally:
        client.delete(f"/api/v1/namespaces/{name}")
        client.delete(made.path("v1", "pods"), {"gracePeriodSeconds": 1})

"""What the tests of render, observe, apply and runtime share: manifests, and an API that notes what is written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from alignment_api import digests
from alignment_api.evidence import Evidence
from alignment_api.stage import Input, InputKind, SampleParameters, Stage, StageConfig
from alignment_operator.api import Kind, Manifest
from alignment_operator.cluster import Cluster
from alignment_operator.observed import Owner, Settings
from tests.cluster.client import Namespace, has_condition

T = TypeVar("T")
SETTINGS = Settings(worker_image="alignment-worker:test")
VERSION = "alignment.dev/v1alpha1"


_DIGEST = digests.of_bytes(b"")
EVIDENCE = Evidence(
    namespace="team",
    cycle="support",
    cycle_uid="uid-1",
    iteration=3,
    spec={"policy": {"model": "pvc://models/m0"}},
    incumbent_digest=_DIGEST,
    candidate_uri="pvc://store/candidate",
    candidate_digest=_DIGEST,
    inputs={},
    stages=[],
    gates=[],
)


def owner(**changes: Any) -> Owner:
    fields: dict[str, Any] = {
        "namespace": "team",
        "name": "support",
        "uid": "uid-1",
        "generation": 1,
        "resource_version": "7",
        "annotations": {},
    }
    return Owner(**fields | changes)


def stage_config(**changes: Any) -> StageConfig:
    """A sample stage whose policy is in the claim that it writes to, and whose prompts are in another."""
    fields: dict[str, Any] = {
        "stage": Stage.SAMPLE,
        "owner_uid": "uid-1",
        "iteration": 3,
        "output": "pvc://store/cycles/team/support/uid-1/iterations/3/sample",
        "inputs": {
            "policy": Input(uri="pvc://store/m0", kind=InputKind.MODEL),
            "prompts": Input(uri="pvc://data/prompts.jsonl", kind=InputKind.PROMPTS),
        },
        "parameters": SampleParameters.from_wire({"sampling": {}}),
        "seed": 3,
    }
    return StageConfig(**fields | changes)


def cycle(name: str, namespace: str, **spec: Any) -> Manifest:
    """One that is asked to run."""
    return {
        "apiVersion": VERSION,
        "kind": "AlignmentCycle",
        "metadata": {"name": name, "namespace": namespace, "annotations": {"alignment.dev/run": "first"}},
        "spec": {
            "policy": {"model": "pvc://models/m0"},
            "store": {"uri": "pvc://models/cycles"},
            "prompts": {"uri": "pvc://models/prompts.jsonl"},
            "judge": {"verifier": {}},
            "evaluation": {
                "goldSet": {"uri": "pvc://models/gold.jsonl"},
                "heldOutPrompts": {"uri": "pvc://models/heldout.jsonl"},
            },
            **spec,
        },
    }


def now() -> datetime:
    return datetime.now(UTC)


class Recorder:
    """The real API, with every write noted by its method, its kind and its name. It may die before a write."""

    def __init__(self, api: Cluster, die_before: int | None = None) -> None:
        self.writes: list[str] = []
        self._api = api
        self._die_before = die_before

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return await self._api.get(kind, namespace, name)

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Manifest]:
        return await self._api.list(kind, namespace, labels)

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        self._note("create", kind.kind, manifest["metadata"]["name"])
        return await self._api.create(kind, manifest)

    async def replace_status(self, kind: Kind, manifest: Manifest) -> Manifest:
        self._note("status", kind.kind, manifest["metadata"]["name"])
        return await self._api.replace_status(kind, manifest)

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        self._note("merge", kind.kind, name)
        return await self._api.merge(kind, namespace, name, patch)

    async def apply(self, kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:
        self._note("apply", kind.kind, manifest["metadata"]["name"])
        return await self._api.apply(kind, manifest, force=force)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        self._note("delete", kind.kind, name)
        await self._api.delete(kind, namespace, name, uid)

    async def emit(
        self, owner: Manifest, reason: str, message: str, *, warning: bool, about: str = ""
    ) -> None:
        self._note("emit", reason, owner["metadata"]["name"])
        await self._api.emit(owner, reason, message, warning=warning, about=about)

    def _note(self, method: str, what: str, name: str) -> None:
        if len(self.writes) == self._die_before:
            raise KilledError
        self.writes.append(f"{method} {what} {name}")


class KilledError(BaseException):
    """The operator died here."""


OnApi = Callable[[Callable[[Cluster], Awaitable[T]]], T]


def finished_job(namespace: Namespace, name: str) -> Manifest:
    """The Job once it has ended in any way."""
    done, failed = has_condition("Complete"), has_condition("Failed")
    return namespace.wait("batch/v1", "jobs", name, lambda job: done(job) or failed(job), "it ended")

"""What the edges need of an API: the real server (`cluster.py`) and a folder (`local/`) both give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from alignment_api import names
from alignment_api.model import API_VERSION

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of object, as paths and manifests name it."""

    api_version: str
    kind: str
    plural: str


CYCLE = Kind(API_VERSION, names.CYCLE_KIND, names.CYCLE_PLURAL)
DATASET = Kind(API_VERSION, names.DATASET_KIND, names.DATASET_PLURAL)
JOB = Kind("batch/v1", "Job", "jobs")
POD = Kind("v1", "Pod", "pods")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE = Kind("v1", "Service", "services")
WORKLOAD = Kind("kueue.x-k8s.io/v1beta2", "Workload", "workloads")
INFERENCE_SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
TARGET_KINDS = {kind.kind: kind for kind in (CONFIG_MAP, INFERENCE_SERVICE)}
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")


class AlreadyExistsError(Exception):
    """409 on create."""


class ConflictError(Exception):
    """409 on a write with a stale resourceVersion or UID, or on server-side apply against another manager."""


class NotFoundError(Exception):
    """404 on a write."""


class RefusedError(Exception):
    """400, 403 or 422: the server will not have the object as it is, now or later; the message says why."""


class Api(Protocol):
    """Every method may raise the errors above, and the transport's own, which a pass is retried after."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None: ...

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Manifest]: ...

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        """What was made, as far as its kind and metadata."""
        ...

    async def replace_status(self, kind: Kind, manifest: Manifest) -> Manifest:
        """Write `status` of a manifest that carries the resourceVersion it was decided from."""
        ...

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        """JSON merge patch; with metadata.uid or resourceVersion in it, only if they match."""
        ...

    async def apply(self, kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:
        """Server-side apply as `names.FIELD_MANAGER`."""
        ...

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """In the background, with dependents; nothing happens if it is gone or another's."""
        ...

    async def emit(
        self, owner: Manifest, reason: str, message: str, *, warning: bool, about: str = ""
    ) -> None:
        """A Kubernetes event about the object; see `planned.Event`."""
        ...

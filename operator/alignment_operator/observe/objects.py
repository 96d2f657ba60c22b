"""An object of ours as it is now: who it is, and what its status says."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ValidationError

from alignment_api.model import Model
from alignment_api.validation import Problem
from alignment_operator.api import Api, Kind, Manifest
from alignment_operator.observed import Owner

Status = TypeVar("Status", bound=Model)


async def live(api: Api, kind: Kind, namespace: str, name: str) -> Manifest | None:
    """None if it is not there, or on its way out: then nothing more is made for it."""
    manifest = await api.get(kind, namespace, name)
    return None if manifest is None or manifest["metadata"].get("deletionTimestamp") else manifest


def owner_of(manifest: Manifest) -> Owner:
    metadata = manifest["metadata"]
    return Owner(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata.get("generation", 0),
        resource_version=metadata["resourceVersion"],
        annotations=metadata.get("annotations") or {},
    )


def status_of(model: type[Status], manifest: Manifest) -> tuple[Status, tuple[Problem, ...]]:
    """A status that somebody broke is as good as lost: an empty one, and a problem that says where it is broken."""
    wire: Any = manifest.get("status") or {}
    try:
        return model.from_wire(wire), ()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(["status", *map(str, first["loc"])])
        problem = Problem(path, str(first["input"])[:60], f"{first['msg']}; the status is taken as lost")
        return model(), (problem,)

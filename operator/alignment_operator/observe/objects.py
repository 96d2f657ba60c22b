"""An object of ours as it is now: who it is, and what its status says."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from alignment_api.model import Model
from alignment_operator.api import Api, Kind, Manifest
from alignment_operator.observed import Owner

Status = TypeVar("Status", bound=Model)


async def live(
    api: Api, kind: Kind, namespace: str, name: str, latest: Manifest | None = None
) -> Manifest | None:
    """Read, unless it is known already. None if it is not there, or on its way out: nothing more is made for it."""
    manifest = latest or await api.get(kind, namespace, name)
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
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]),
    )


def controlled_by(manifest: Manifest, uid: str) -> bool:
    """Whether the object's controller, by owner reference, is the one with this UID."""
    references = manifest["metadata"].get("ownerReferences") or []
    return any(reference["uid"] == uid and reference.get("controller") for reference in references)


class UnreadableError(Exception):
    """Something that an operator wrote and this one cannot read. Nothing is written over it."""

    def __init__(self, message: str, manifest: Manifest) -> None:
        super().__init__(message)
        self.manifest = manifest


def status_of(model: type[Status], manifest: Manifest) -> Status:
    """Fields that only a newer operator knows are passed over. Raises UnreadableError for anything else."""
    wire: Any = copy.deepcopy(manifest.get("status") or {})
    try:
        return model.from_wire(wire)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    for problem in problems:
        if problem["type"] == "extra_forbidden":
            _drop(wire, problem["loc"])
    try:
        return model.from_wire(wire)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = ".".join(["status", *map(str, first["loc"])])
        where = f"{manifest['kind']} {manifest['metadata']['name']}"
        message = f"{where}: {path}: {str(first['input'])[:60]}: {first['msg']}"
        raise UnreadableError(message, manifest) from error


def _drop(wire: Any, path: tuple[int | str, ...]) -> None:
    for part in path[:-1]:
        wire = wire[part]
    del wire[path[-1]]

"""A folder that answers as the API server does: `Api` on JSON files.

    STATE/objects/PLURAL/NAMESPACE/NAME.json    one object a file, replaced as a whole
    STATE/events.jsonl                          the newest events

Every write happens under a lock between processes, so `alignctl approve` may write while `alignctl run` runs.
"""

from __future__ import annotations

import copy
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from alignment_api import names
from alignment_operator.api import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    CYCLE,
    DATASET,
    JOB,
    POD,
    AlreadyExistsError,
    ConflictError,
    Kind,
    Manifest,
    NotFoundError,
)
from alignment_operator.local import fields
from alignment_operator.local.admission import admitted
from alignment_operator.local.files import read_object, write_atomically, write_json, write_lock

KINDS = (CYCLE, DATASET, JOB, POD, CONFIG_MAP, CONTROLLER_REVISION)
EVENTS_KEPT = 1000
_SAFE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_SERVER_SIDE = ("uid", "resourceVersion", "creationTimestamp", "generation", "name", "namespace")


class Directory:
    """The API of one state folder; see `alignment_operator.api.Api` for what each method promises."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def all(self, kind: Kind) -> list[Manifest]:
        """In every namespace."""
        folder = self.state / "objects" / kind.plural
        namespaces = (
            sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
        )
        return [manifest for namespace in namespaces for manifest in self._all(kind, namespace)]

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self._read(kind, namespace, name)

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Manifest]:
        found = []
        for manifest in self._all(kind, namespace):
            carried = manifest["metadata"].get("labels") or {}
            if all(carried.get(key) == value for key, value in labels.items()):
                found.append(manifest)
        return found

    async def create(self, kind: Kind, manifest: Manifest) -> Manifest:
        with self._locked():
            return self._create(kind, manifest)

    async def replace_status(self, kind: Kind, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        with self._locked():
            live = self._existing(kind, metadata["namespace"], metadata["name"])
            _require_same(live, metadata)
            return self._update(kind, live, {**live, "status": copy.deepcopy(manifest.get("status", {}))})

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        with self._locked():
            live = self._existing(kind, namespace, name)
            _require_same(live, patch.get("metadata", {}))
            return self._update(kind, live, _with_status_of(live, fields.merged(live, patch)))

    async def apply(self, kind: Kind, manifest: Manifest, *, force: bool) -> Manifest:
        metadata = manifest["metadata"]
        with self._locked():
            live = self._read(kind, metadata.get("namespace", "default"), metadata["name"])
            if live is None:  # the version is then nothing to the API server, the UID is
                identity = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
                live = self._create(
                    kind, {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": identity}
                )
                metadata = {key: value for key, value in metadata.items() if key == "uid"}
            _require_same(live, metadata)
            new = fields.applied(live, manifest, names.FIELD_MANAGER, force=force)
            return self._update(kind, live, _with_status_of(live, new))

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        with self._locked():
            live = self._read(kind, namespace, name)
            if live is not None and live["metadata"]["uid"] == uid:
                self._delete(kind, live)

    async def emit(
        self, owner: Manifest, reason: str, message: str, *, warning: bool, about: str = ""
    ) -> None:
        """Each one is kept: `about` tells nothing here."""
        event = {
            "at": _now(),
            "type": "Warning" if warning else "Normal",
            "reason": reason,
            "message": message,
            "object": {"kind": owner["kind"], **_identity(owner)},
        }
        with self._locked():
            self._keep_event(json.dumps(event, ensure_ascii=False))

    def put(self, kind: Kind, manifest: Manifest) -> Manifest:
        """What a user's `kubectl apply` does: spec as written, labels and annotations laid over those there are.

        Raises InvalidObjectError.
        """
        admitted(kind, manifest, None)
        metadata = manifest["metadata"]
        with self._locked():
            live = self._read(kind, metadata.get("namespace") or "default", metadata["name"])
            if live is None:
                return self._create(kind, manifest)
            new = {
                **live,
                **{key: value for key, value in manifest.items() if key not in ("metadata", "status")},
            }
            laid_over = {key: metadata.get(key) or {} for key in ("labels", "annotations") if key in metadata}
            new["metadata"] = fields.merged(live["metadata"], laid_over)
            return self._update(kind, live, new)

    def annotate(self, kind: Kind, namespace: str, name: str, annotations: Mapping[str, str]) -> Manifest:
        """Raises NotFoundError."""
        with self._locked():
            live = self._existing(kind, namespace, name)
            new = fields.merged(live, {"metadata": {"annotations": dict(annotations)}})
            return self._update(kind, live, new)

    def _create(self, kind: Kind, manifest: Manifest) -> Manifest:
        new = admitted(kind, manifest, None)
        metadata = new["metadata"]
        metadata["namespace"] = metadata.get("namespace") or "default"
        if self._read(kind, metadata["namespace"], metadata["name"]) is not None:
            raise AlreadyExistsError(f"{kind.plural}/{metadata['name']} exists")
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=_now(), resourceVersion=_version(None))
        if "spec" in new:
            metadata["generation"] = 1
        if kind in (CYCLE, DATASET):
            new.pop("status", None)  # as with the status subresource: only replace_status writes it
        self._write(kind, new)
        return new

    def _update(self, kind: Kind, live: Manifest, new: Manifest) -> Manifest:
        new = admitted(kind, new, live)
        for key in _SERVER_SIDE:
            new["metadata"].pop(key, None)
            if key in live["metadata"]:
                new["metadata"][key] = live["metadata"][key]
        if new == live:
            return live
        if new.get("spec") != live.get("spec"):
            new["metadata"]["generation"] = live["metadata"].get("generation", 0) + 1
        new["metadata"]["resourceVersion"] = _version(live["metadata"]["resourceVersion"])
        self._write(kind, new)
        return new

    def _delete(self, kind: Kind, live: Manifest) -> None:
        self._path(kind, live["metadata"]["namespace"], live["metadata"]["name"]).unlink(missing_ok=True)
        for dependent_kind in KINDS:
            for dependent in self._all(dependent_kind, live["metadata"]["namespace"]):
                owners = dependent["metadata"].get("ownerReferences", [])
                if any(owner["uid"] == live["metadata"]["uid"] for owner in owners):
                    self._delete(dependent_kind, dependent)

    def _locked(self) -> AbstractContextManager[None]:
        return write_lock(self.state / "objects.lock")

    def _path(self, kind: Kind, namespace: str, name: str) -> Path:
        for part in (namespace, name):
            if not _SAFE_NAME.fullmatch(part):
                raise ValueError(f"{part!r} is not a name; use lower-case letters, digits and dashes")
        return self.state / "objects" / kind.plural / namespace / f"{name}.json"

    def _read(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return read_object(self._path(kind, namespace, name))

    def _existing(self, kind: Kind, namespace: str, name: str) -> Manifest:
        live = self._read(kind, namespace, name)
        if live is None:
            raise NotFoundError(f"no {kind.kind} {name!r} in namespace {namespace!r} of {self.state}")
        return live

    def _write(self, kind: Kind, manifest: Manifest) -> None:
        metadata = manifest["metadata"]
        write_json(self._path(kind, metadata["namespace"], metadata["name"]), manifest)

    def _all(self, kind: Kind, namespace: str) -> Iterator[Manifest]:
        folder = self.state / "objects" / kind.plural / namespace
        for path in sorted(folder.glob("[!.]*.json")):
            manifest = read_object(path)
            if manifest is not None:
                yield manifest

    def _keep_event(self, line: str) -> None:
        path = self.state / "events.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [*lines, line][-EVENTS_KEPT:]
        write_atomically(path, ("\n".join(kept) + "\n").encode())


def _require_same(live: Manifest, expected: Manifest) -> None:
    for key in ("uid", "resourceVersion"):
        if key in expected and expected[key] != live["metadata"][key]:
            raise ConflictError(
                f"{live['kind']} {live['metadata']['name']}: the object has been changed ({key})"
            )


def _with_status_of(live: Manifest, new: Manifest) -> Manifest:
    new = {key: value for key, value in new.items() if key != "status"}
    return {**new, "status": live["status"]} if "status" in live else new


def _identity(manifest: Manifest) -> Manifest:
    return {key: manifest["metadata"].get(key) for key in ("namespace", "name", "uid")}


def _version(old: str | None) -> str:
    return str(max(time.time_ns(), int(old or 0) + 1))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

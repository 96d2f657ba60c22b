"""A pod's volumes as folders of this machine, and its containers' mounts of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.api import Api, ApiError, Json
from tests.cluster.environment import expand, field_value, object_files, resource_value


class NotMountableError(Exception):
    """A volume cannot be had, at least not yet; the message says why."""


@dataclass(frozen=True)
class Volume:
    """One volume: a host path, and whether every mount of it is read-only."""

    path: Path
    read_only: bool = False


class Volumes:
    """Makes the volumes of one pod below `folder`."""

    def __init__(self, api: Api, folder: Path, allocatable: Mapping[str, str]) -> None:
        self._api = api
        self._folder = folder
        self._allocatable = allocatable

    async def make(self, pod: Json) -> dict[str, Volume]:
        """All volumes by name. NotMountableError if one of them cannot be had yet; then call it again later."""
        made = {each["name"]: await self._make(pod, each) for each in pod["spec"].get("volumes", ())}
        group = pod["spec"].get("securityContext", {}).get("fsGroup")
        if group is not None and os.getuid() == 0:
            for spec in pod["spec"].get("volumes", ()):
                if "hostPath" not in spec:
                    await asyncio.to_thread(_give_to_group, made[spec["name"]].path, group)
        return made

    async def _make(self, pod: Json, spec: Json) -> Volume:
        folder = self._folder / spec["name"]
        kind = next((key for key in spec if key != "name"), "emptyDir")
        source: Json = spec.get(kind) or {}
        if kind == "emptyDir":
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)
            return Volume(folder)
        if kind == "hostPath":
            return Volume(_host_path(source))
        if kind in {"persistentVolumeClaim", "ephemeral"}:
            name = source.get("claimName") or f"{pod['metadata']['name']}-{spec['name']}"
            return Volume(
                await self._claimed(pod["metadata"]["namespace"], name), source.get("readOnly", False)
            )
        if kind == "projected":
            files: dict[str, bytes] = {}
            for part in source.get("sources") or ():
                ((part_kind, part_source),) = part.items()
                files |= await self._files(pod, part_kind, part_source)
        else:
            files = await self._files(pod, kind, source)
        _write(folder, files, source.get("defaultMode", 0o644))
        return Volume(folder, read_only=True)

    def refresh(self, pod: Json) -> None:
        """Write what the downward API says of the pod now, as labels and annotations change."""
        for spec in pod["spec"].get("volumes", ()):
            if (source := spec.get("downwardAPI")) and (self._folder / spec["name"]).exists():
                _write(
                    self._folder / spec["name"], self._downward(pod, source), source.get("defaultMode", 0o644)
                )

    async def _files(self, pod: Json, kind: str, source: Json) -> dict[str, bytes]:
        namespace = pod["metadata"]["namespace"]
        if kind == "configMap":
            return await self._object_files(namespace, "configmaps", source["name"], source)
        if kind == "secret":
            name = source.get("secretName") or source["name"]
            return await self._object_files(namespace, "secrets", name, source)
        if kind == "downwardAPI":
            return self._downward(pod, source)
        if kind == "serviceAccountToken":
            return {source["path"]: (await self._token(pod, source)).encode()}
        raise NotMountableError(f"the process node has no volumes of type {kind}")

    def _downward(self, pod: Json, source: Json) -> dict[str, bytes]:
        files = {}
        for item in source.get("items") or ():
            if reference := item.get("fieldRef"):
                text = field_value(pod, reference["fieldPath"])
            else:
                reference = item["resourceFieldRef"]
                text = resource_value(pod, reference["containerName"], reference, self._allocatable)
            files[item["path"]] = text.encode()
        return files

    async def _object_files(self, namespace: str, kind: str, name: str, source: Json) -> dict[str, bytes]:
        found = await self._api.get(f"/api/v1/namespaces/{namespace}/{kind}/{name}")
        if found is None:
            if source.get("optional"):
                return {}
            raise NotMountableError(f'{kind.removesuffix("s")} "{name}" not found')
        files = object_files(found)
        if "items" not in source:
            return files
        missing = [item["key"] for item in source["items"] if item["key"] not in files]
        if missing and not source.get("optional"):
            raise NotMountableError(
                f"{kind.removesuffix('s')} references non-existent config key: {missing[0]}"
            )
        return {item["path"]: files[item["key"]] for item in source["items"] if item["key"] in files}

    async def _token(self, pod: Json, source: Json) -> str:
        metadata = pod["metadata"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        wanted: Json = {"boundObjectRef": bound, "expirationSeconds": source.get("expirationSeconds", 3600)}
        if audience := source.get("audience"):
            wanted["audiences"] = [audience]
        account = (
            f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{pod['spec']['serviceAccountName']}"
        )
        request: Json = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": wanted}
        try:
            answer = await self._api.create(f"{account}/token", request)
        except ApiError as error:
            raise NotMountableError(f"no token: {error.message}") from error
        token: str = answer["status"]["token"]
        return token

    async def _claimed(self, namespace: str, name: str) -> Path:
        claim = await self._api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}")
        if claim is None or claim.get("status", {}).get("phase") != "Bound":
            raise NotMountableError(f'persistentvolumeclaim "{name}" is not bound')
        volume = await self._api.get(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
        spec: dict[str, Any] = {} if volume is None else volume["spec"]
        for kind in ("hostPath", "local"):
            if kind in spec:
                return _host_path(spec[kind])
        raise NotMountableError(
            f'the volume of persistentvolumeclaim "{name}" is not a folder of this machine'
        )


def mounts(pod: Json, container: Json, volumes: Mapping[str, Volume], env: Mapping[str, str]) -> list[Json]:
    """The shim's mounts of one container. NotMountableError if a subPath leads out of its volume."""
    rows = []
    for mount in container.get("volumeMounts", ()):
        volume = volumes[mount["name"]]
        source = volume.path
        sub_path = mount.get("subPath") or expand(mount.get("subPathExpr", ""), env)
        if sub_path:
            source = Path(os.path.realpath(volume.path / sub_path))
            if not source.is_relative_to(os.path.realpath(volume.path)):
                raise NotMountableError(f"subPath {sub_path!r} leads out of volume {mount['name']}")
            if not source.exists():
                source.mkdir(parents=True)
                source.chmod(volume.path.stat().st_mode & 0o7777)
        read_only = bool(mount.get("readOnly")) or volume.read_only
        rows.append({"source": str(source), "target": mount["mountPath"], "read_only": read_only})
    return rows


def _host_path(source: Json) -> Path:
    path, kind = Path(source["path"]), source.get("type", "")
    if kind in {"", "DirectoryOrCreate"}:
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch()
    if not path.exists():
        raise NotMountableError(f"hostPath {path} does not exist")
    return path


def _write(folder: Path, files: Mapping[str, bytes], mode: int) -> None:
    """Write files whole; a reader finds each old or new. What is no longer wanted goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in {Path(name).parts[0] for name in files}:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.new")
        scratch.write_bytes(content)
        scratch.chmod(mode)
        scratch.replace(path)


def _give_to_group(path: Path, group: int) -> None:
    """Let a group write, unless that was done before: a store may hold a great many files."""
    found = path.stat()
    if found.st_gid == group and found.st_mode & 0o2070 == 0o2070:
        return
    for each in (path, *path.rglob("*")):
        mode = each.lstat().st_mode
        os.chown(each, -1, group, follow_symlinks=False)
        if each.is_dir() and not each.is_symlink():
            each.chmod((mode & 0o7777) | 0o2070)
        elif each.is_file():
            each.chmod((mode & 0o7777) | 0o060)

"""Volumes for claims: every pending PersistentVolumeClaim gets a folder of this machine."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from tests.cluster.api import Api, ApiError, Json

log = logging.getLogger(__name__)

_LABEL = "test-bed/claims"


class Claims:
    """Makes a hostPath PersistentVolume below `folder` for each claim, and deletes both after the claim."""

    def __init__(self, api: Api, folder: Path) -> None:
        self._api = api
        self._folder = folder

    async def run(self) -> None:
        """Go on for ever."""
        async for kind, item in self._api.follow("/api/v1/persistentvolumeclaims"):
            try:
                if kind == "LISTED":
                    await self._forget_all_but({claim["metadata"]["uid"] for claim in item["items"]})
                    for claim in item["items"]:
                        await self._provide(claim)
                elif kind == "DELETED":
                    await self._forget(_name(item["metadata"]["uid"]))
                else:
                    await self._provide(item)
            except ApiError as error:
                log.warning("claim: %s", error)

    async def _provide(self, claim: Json) -> None:
        metadata, spec = claim["metadata"], claim["spec"]
        if claim.get("status", {}).get("phase") == "Bound" or spec.get("volumeName"):
            return
        path = self._folder / metadata["namespace"] / f"{metadata['name']}-{metadata['uid']}"
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o777)
        volume: Json = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": _name(metadata["uid"]), "labels": {_LABEL: "true"}},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "accessModes": spec["accessModes"],
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": spec.get("storageClassName", ""),
                "volumeMode": spec.get("volumeMode", "Filesystem"),
                "hostPath": {"path": str(path)},
                "claimRef": {
                    "kind": "PersistentVolumeClaim",
                    "namespace": metadata["namespace"],
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                },
            },
        }
        try:
            await self._api.create("/api/v1/persistentvolumes", volume)
        except ApiError as error:
            if error.status != 409:
                raise

    async def _forget_all_but(self, uids: set[str]) -> None:
        listed = await self._api.get(f"/api/v1/persistentvolumes?labelSelector={_LABEL}")
        for volume in (listed or {"items": []})["items"]:
            if volume["spec"]["claimRef"]["uid"] not in uids:
                await self._forget(volume["metadata"]["name"])

    async def _forget(self, name: str) -> None:
        path = f"/api/v1/persistentvolumes/{name}"
        volume = await self._api.get(path)
        if volume is None or _LABEL not in volume["metadata"].get("labels", {}):
            return
        await self._api.delete(path)
        folder = Path(volume["spec"]["hostPath"]["path"])
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _name(uid: str) -> str:
    return f"claim-{uid}"

"""The process node: a Node whose pods are processes of this machine.

`python -m tests.cluster.node FILE` runs it; FILE holds NodeOptions as JSON. SIGTERM ends it and all its
containers; SIGKILL does, too. SIGSTOP makes it a lost node: no heartbeats, no answer, while containers run on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import platform
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.cluster.api import Api, ApiError, Json, Unreachable
from tests.cluster.build import KUBERNETES_VERSION
from tests.cluster.claims import Claims
from tests.cluster.images import Image
from tests.cluster.logs import serve_logs
from tests.cluster.pods import PodRunner
from tests.cluster.processes import free_ports
from tests.cluster.runner import Host
from tests.cluster.status import ADDRESS, now

log = logging.getLogger(__name__)

LEASE_SECONDS = 40

# Of how many pods, those that are gone included, the logs are kept.
KEPT_LOGS = 1000

# Generous, so that manifests made for real machines are scheduled: nothing here is limited.
_CAPACITY = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "500"}


@dataclass(frozen=True)
class NodeOptions:
    """One process node. `resources` are added to its capacity, such as {"nvidia.com/gpu": "8"}.

    `crash_backoff_seconds` is the pause before the second restart of a container, doubled each time.
    """

    kubeconfig: Path
    certificates: Path
    folder: Path
    images: tuple[Image, ...]
    name: str = "process-node"
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, str] = field(default_factory=dict)
    crash_backoff_seconds: float = 10.0
    heartbeat_seconds: float = 10.0
    provide_claims: bool = True

    def write(self, path: Path) -> None:
        """As the file that the node's process reads."""
        data = asdict(self) | {
            key: str(getattr(self, key)) for key in ("kubeconfig", "certificates", "folder")
        }
        path.write_text(json.dumps(data))

    @classmethod
    def read(cls, path: Path) -> NodeOptions:
        """The reverse of write()."""
        data: dict[str, Any] = json.loads(path.read_text())
        data |= {key: Path(data[key]) for key in ("kubeconfig", "certificates", "folder")}
        data["images"] = tuple(Image.from_json(each) for each in data["images"])
        return cls(**data)


class ProcessNode:
    """Keeps a Node alive and runs the pods bound to it."""

    def __init__(self, options: NodeOptions, api: Api) -> None:
        self._options = options
        self._api = api
        self._capacity = {**_CAPACITY, **options.resources}
        self._runners: dict[str, PodRunner] = {}
        self._path = f"/api/v1/nodes/{options.name}"
        self._host = Host(
            api=api,
            folder=options.folder,
            images=options.images,
            allocatable=self._capacity,
            open_paths=_open_paths(),
            crash_backoff_seconds=options.crash_backoff_seconds,
        )

    async def run(self) -> None:
        """Go on until it is cancelled, then end all containers."""
        (port,) = free_ports(1)
        server = await serve_logs(self._find_log, self._options.certificates, port)
        tasks = [asyncio.create_task(self._follow_pods()), asyncio.create_task(self._heartbeat(port))]
        if self._options.provide_claims:
            tasks.append(asyncio.create_task(Claims(self._api, self._options.folder / "claims").run()))
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*(runner.end() for runner in self._runners.values()))
            await server.cleanup()

    async def _heartbeat(self, port: int) -> None:
        await self._insist(lambda: self._register(port))
        while True:
            await self._insist(self._renew)
            await asyncio.sleep(self._options.heartbeat_seconds)

    async def _insist(self, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await action()
            except (ApiError, *Unreachable) as error:
                log.warning("node: %r", error)
                await asyncio.sleep(0.2)
            else:
                return

    async def _register(self, port: int) -> None:
        name = self._options.name
        labels = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), "amd64"),
            **self._options.labels,
        }
        node: Json = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {},
        }
        with contextlib.suppress(ApiError):
            await self._api.create("/api/v1/nodes", node)
        status = self._status(port)
        await self._api.patch(f"{self._path}/status", {"status": status})
        # Admission taints new nodes until a controller has looked at them; there is nothing to wait for.
        await self._api.patch(self._path, {"spec": {"taints": None}, "metadata": {"labels": labels}})

    def _status(self, port: int) -> Json:
        moment = now()
        healthy = {"status": "False", "reason": "ProcessNode", "message": "not watched"}
        conditions = [
            {"type": "MemoryPressure", **healthy},
            {"type": "DiskPressure", **healthy},
            {"type": "PIDPressure", **healthy},
            {
                "type": "Ready",
                "status": "True",
                "reason": "KubeletReady",
                "message": "the process node is ready",
            },
        ]
        info = {
            "machineID": self._options.name,
            "systemUUID": self._options.name,
            "bootID": self._options.name,
            "kernelVersion": platform.release(),
            "osImage": platform.platform(),
            "containerRuntimeVersion": "process://1",
            "kubeletVersion": KUBERNETES_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": platform.machine(),
        }
        return {
            "capacity": self._capacity,
            "allocatable": self._capacity,
            "conditions": [
                row | {"lastHeartbeatTime": moment, "lastTransitionTime": moment} for row in conditions
            ],
            "addresses": [{"type": "InternalIP", "address": ADDRESS}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "nodeInfo": info,
        }

    async def _renew(self) -> None:
        leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
        name = self._options.name
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        lease: Json = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name},
            "spec": spec,
        }
        try:
            await self._api.patch(f"{leases}/{name}", {"spec": spec})
        except ApiError as error:
            if error.status != 404:
                raise
            await self._api.create(leases, lease)
        # A controller marks a node whose lease ran out, and leaves it to the node to take that back.
        found = await self._api.get(self._path)
        conditions = (found or {}).get("status", {}).get("conditions", ())
        if any(row["type"] == "Ready" and row["status"] != "True" for row in conditions):
            port = found["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"] if found else 0
            await self._api.patch(f"{self._path}/status", {"status": self._status(port)})

    async def _follow_pods(self) -> None:
        selector = f"spec.nodeName={self._options.name}"
        async for kind, item in self._api.follow("/api/v1/pods", fieldSelector=selector):
            if kind == "LISTED":
                self._forget_leftovers({pod["metadata"]["uid"] for pod in item["items"]})
                for pod in item["items"]:
                    self._upsert(pod)
            elif kind == "DELETED":
                self._vanish(item["metadata"]["uid"])
            else:
                self._upsert(item)

    def _upsert(self, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        if runner := self._runners.get(uid):
            runner.update(pod)
            return
        runner = self._runners[uid] = PodRunner(pod, self._host)
        runner.task.add_done_callback(lambda task: self._ended(uid, task))

    def _ended(self, uid: str, task: asyncio.Task[None]) -> None:
        self._runners.pop(uid, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("pod %s", uid, exc_info=error)
        logs = self._options.folder / "logs"
        folders = sorted(logs.iterdir(), key=lambda path: path.stat().st_mtime) if logs.exists() else []
        for path in folders[:-KEPT_LOGS]:
            shutil.rmtree(path, ignore_errors=True)

    def _vanish(self, uid: str) -> None:
        if runner := self._runners.get(uid):
            runner.vanish()

    def _forget_leftovers(self, uids: set[str]) -> None:
        for uid in self._runners.keys() - uids:
            self._vanish(uid)
        folder = self._options.folder / "pods"
        for path in folder.iterdir() if folder.exists() else ():
            if path.name not in uids and path.name not in self._runners:
                shutil.rmtree(path, ignore_errors=True)

    def _find_log(self, namespace: str, pod: str, container: str) -> tuple[Path, bool] | None:
        for runner in self._runners.values():
            if runner.name == f"{namespace}/{pod}" and (path := runner.log_file(container)):
                return path, runner.over
        return None


def _open_paths() -> list[str]:
    """Whatever a container needs that is not root, and that may lie in somebody's private home."""
    interpreter = Path(sys.executable)
    return [str(interpreter), str(interpreter.resolve()), str(Path(__file__).resolve())]


async def _main(options: NodeOptions) -> None:
    async with Api(options.kubeconfig) as api:
        node = asyncio.create_task(ProcessNode(options, api).run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, node.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await node


def main() -> None:
    """Entry of the node's process."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    os.umask(0o022)
    asyncio.run(_main(NodeOptions.read(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()

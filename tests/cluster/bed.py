"""The whole test bed: a control plane and a process node in one folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.cluster.controlplane import ControlPlane, ControlPlaneOptions
from tests.cluster.images import Image, default_images
from tests.cluster.node import NodeOptions
from tests.cluster.processes import Child
from tests.cluster.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class BedOptions:
    """What differs between test beds. `images` are added to the default ones and win over them."""

    folder: Path
    images: tuple[Image, ...] = ()
    extra_args: dict[str, Sequence[str]] = field(default_factory=dict)
    audit: bool = False
    resources: dict[str, str] = field(default_factory=dict)
    crash_backoff_seconds: float = 10.0
    heartbeat_seconds: float = 10.0


class Bed:
    """A cluster on this machine. It ends with the thread that started it, whatever becomes of that thread."""

    def __init__(self, options: BedOptions) -> None:
        self.folder = options.folder.resolve()
        self.control_plane = ControlPlane(
            ControlPlaneOptions(self.folder, extra_args=options.extra_args, audit=options.audit)
        )
        self._node_options = NodeOptions(
            kubeconfig=self.control_plane.kubeconfig_of("system:node:process-node"),
            certificates=self.control_plane.certificates,
            folder=self.folder / "node",
            images=(*default_images(REPOSITORY), *options.images),
            resources=options.resources,
            crash_backoff_seconds=options.crash_backoff_seconds,
            heartbeat_seconds=options.heartbeat_seconds,
        )
        self.nodes: dict[str, Child] = {}

    @property
    def kubeconfig(self) -> Path:
        """Credentials of a cluster admin."""
        return self.control_plane.kubeconfig

    @property
    def logs(self) -> Path:
        """Containers' logs: NAMESPACE_POD_UID/CONTAINER/RUN.log."""
        return self._node_options.folder / "logs"

    def start(self) -> None:
        """Return when pods can be made. If that fails, nothing is left running."""
        try:
            self.control_plane.start()
            self.add_node(self._node_options)
        except BaseException:
            self.stop()
            raise

    def add_node(self, options: NodeOptions) -> Child:
        """Start one more process node and return when it is ready."""
        options.folder.mkdir(parents=True, exist_ok=True)
        file = options.folder / f"{options.name}.json"
        options.write(file)
        argv = [sys.executable, "-m", "tests.cluster.node", str(file)]
        path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
        log = self.folder / "logs" / f"{options.name}.log"
        child = Child(options.name, argv, log, os.environ | {"PYTHONPATH": path})
        child.start()
        self.nodes[options.name] = child
        wait_until(lambda: self._node_ready(options.name), f"node {options.name} is ready")
        return child

    def another_node(self, name: str, **changes: Any) -> Child:
        """Start one more process node like the first one, but for the changes."""
        folder = self.folder / name
        return self.add_node(
            replace(self._node_options, name=name, folder=folder, provide_claims=False, **changes)
        )

    @contextlib.contextmanager
    def lost_node(self, name: str = "process-node") -> Iterator[None]:
        """Within this context the node neither renews its lease nor acts, while its containers run on."""
        self.nodes[name].signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.nodes[name].signal(signal.SIGCONT)

    def children(self) -> list[Child]:
        """All processes that carry it."""
        return [*self.control_plane.components.values(), *self.nodes.values()]

    def stop(self) -> None:
        """End everything. Harmless if it has ended."""
        for node in self.nodes.values():
            if node.running:
                node.signal(signal.SIGCONT)
            node.stop()
        self.control_plane.stop()

    def remove(self) -> None:
        """stop(), and delete the folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _node_ready(self, name: str) -> bool:
        self.nodes[name].check()
        body = self.control_plane.get(f"/api/v1/nodes/{name}")
        if body is None:
            return False
        node = json.loads(body)
        conditions = {row["type"]: row["status"] for row in node["status"].get("conditions", ())}
        return conditions.get("Ready") == "True" and not node["spec"].get("taints")

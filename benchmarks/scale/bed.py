"""A control plane whose nodes and pods KWOK plays, with an audit log of what is measured."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.cluster.api import Json
from tests.cluster.build import kwok
from tests.cluster.client import Client
from tests.cluster.controlplane import ControlPlane, ControlPlaneOptions
from tests.cluster.crds import serve
from tests.cluster.processes import Child
from tests.cluster.waiting import wait_until

NODES = 10
USER = "alignment-operator"
_STAGES = Path(__file__).with_name("stages.yaml")

_RATIO = {"estimate": 1.0, "low": 0.95, "high": 1.05, "n": 300}
_NONE = {"estimate": 0.0, "low": -0.5, "high": 0.5, "n": 300}
_GOLD = {"estimate": 2.0, "low": -1.0, "high": 5.0, "n": 400, "p": 0.9, "discordant": 0.05}
_REPORTS = {
    "sample": {"counts": {"completions": 3}},
    "judge": {"counts": {"judgements": 3}},
    "train": {"counts": {"steps": 3}},
    "evaluate": {
        "counts": {"answers": 300},
        "measurements": {"lengthRatio": _RATIO, "truncatedShare": _NONE, "truncatedChange": _NONE},
        "byCategory": {"facts": {"gold": _GOLD}},
    },
    "compare": {"counts": {"comparisons": 3}},
    "promote": {"counts": {"sealed": 1}},
}

# What USER asks for; and, by anybody, what begins a Job and what ends it.
_AUDIT_POLICY: Json = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "users": [USER]},
        {
            "level": "Metadata",
            "verbs": ["update", "patch"],
            "resources": [{"group": "batch", "resources": ["jobs/status"]}],
        },
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class ScaleBed:
    """A running one. `kubeconfig` is that of USER."""

    control_plane: ControlPlane
    kwok: Child
    client: Client
    kubeconfig: Path
    audit_log: Path


@contextlib.contextmanager
def scale_bed(folder: Path) -> Iterator[ScaleBed]:
    """From nothing; ended and left behind with its logs."""
    folder.mkdir(parents=True)
    policy, audit_log = folder / "scale-policy.yaml", folder / "scale-audit.log"
    policy.write_text(yaml.safe_dump(_AUDIT_POLICY))
    whole = "--audit-log-maxsize=10000"  # MiB: one file, however many cycles there are
    audit = (f"--audit-policy-file={policy}", f"--audit-log-path={audit_log}", whole)
    control_plane = ControlPlane(ControlPlaneOptions(folder, extra_args={"kube-apiserver": audit}))
    control_plane.start()
    player = _player(control_plane, folder)
    try:
        player.start()
        with Client(control_plane.kubeconfig) as client:
            serve(client)
            _make_nodes(client)
            yield ScaleBed(control_plane, player, client, control_plane.kubeconfig_of(USER), audit_log)
    finally:
        player.stop()
        control_plane.stop()


def make_namespace(client: Client, name: str) -> None:
    """With the claim `store`, bound."""
    volume: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteMany"],
            "hostPath": {"path": f"/{name}"},
            "claimRef": {"namespace": name, "name": "store"},
        },
    }
    claim: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "store"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": name,
            "storageClassName": "",
        },
    }
    namespace: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    client.call("POST", "/api/v1/namespaces", namespace)
    client.call("POST", "/api/v1/persistentvolumes", volume)
    path = f"/api/v1/namespaces/{name}"
    client.call("POST", f"{path}/persistentvolumeclaims", claim)

    def ready() -> bool:
        found = client.get(f"{path}/persistentvolumeclaims/store") or {}
        bound = found.get("status", {}).get("phase") == "Bound"
        return bound and client.get(f"{path}/serviceaccounts/default") is not None

    wait_until(ready, f"namespace {name} takes pods", 60)


def _player(control_plane: ControlPlane, folder: Path) -> Child:
    config = folder / "kwok.yaml"
    config.write_text(_STAGES.read_text().replace("REPORTS", json.dumps(_REPORTS)))
    argv = [
        str(kwok()),
        f"--kubeconfig={control_plane.kubeconfig}",
        f"--config={config}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
        "--server-address=",
    ]
    return Child("kwok", argv, folder / "logs" / "kwok.log")


def _make_nodes(client: Client) -> None:
    for number in range(NODES):
        node: Json = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}"}}
        client.call("POST", "/api/v1/nodes", node)

    def ready() -> bool:
        nodes = client.call("GET", "/api/v1/nodes")["items"]
        return all(
            not node["spec"].get("taints")
            and any(
                row["type"] == "Ready" and row["status"] == "True" for row in node["status"]["conditions"]
            )
            for node in nodes
        )

    wait_until(ready, "KWOK's nodes are ready", 60)

"""Kinds on a test cluster: ours, and those of others that tests play."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.cluster.api import Json
from tests.cluster.client import Client
from tests.cluster.waiting import wait_until

CRDS = Path(__file__).parents[2] / "crds"


def serve(cluster: Client, definitions: Path = CRDS) -> None:
    """Apply a file or folder of CRDs and wait until all are served.

    `kubectl wait` fails before the first condition is written.
    """
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(definitions))
    files = sorted(definitions.glob("*.yaml")) if definitions.is_dir() else [definitions]
    named = {yaml.safe_load(file.read_text())["metadata"]["name"] for file in files}
    wait_until(lambda: _served(cluster, named), f"{', '.join(sorted(named))} are served")


def _served(cluster: Client, named: set[str]) -> bool:
    found = cluster.call("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
    return named <= {crd["metadata"]["name"] for crd in found if _established(crd)}


def _established(crd: Json) -> bool:
    conditions = crd.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)

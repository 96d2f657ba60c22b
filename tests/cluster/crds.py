"""Our kinds on a test cluster."""

from __future__ import annotations

from pathlib import Path

from alignment_api.model import GROUP
from tests.cluster.api import Json
from tests.cluster.client import Client
from tests.cluster.waiting import wait_until

CRDS = Path(__file__).parents[2] / "crds"


def serve(cluster: Client) -> None:
    """Apply crds/ and wait until both kinds are served. `kubectl wait` fails before the first condition is written."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CRDS))
    wait_until(lambda: _served(cluster), "the kinds are served")


def _served(cluster: Client) -> bool:
    found = cluster.call("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]
    ours = [crd for crd in found if crd["spec"]["group"] == GROUP]
    return len(ours) == len(list(CRDS.glob("*.yaml"))) and all(_established(crd) for crd in ours)


def _established(crd: Json) -> bool:
    conditions = crd.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions)

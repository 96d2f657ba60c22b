"""A release that serves some namespaces, through its whole life: upgrade, rollback, uninstall, and again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.chart import audit
from tests.chart.charts import CHART, NAME, REPOSITORY, SYSTEM, Release
from tests.chart.conftest import restricted_namespace
from tests.chart.gang import CYCLES
from tests.cluster.api import Json
from tests.cluster.bed import Bed
from tests.cluster.client import Client, Namespace
from tests.cluster.waiting import wait_until

DEFINITION = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/alignmentcycles.alignment.dev"
INSTALL: list[str | Path] = ["install", NAME, CHART, "--namespace", SYSTEM]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def red(client: Client) -> Namespace:
    return restricted_namespace(client, "red")


@pytest.fixture(scope="module")
def blue(client: Client) -> Namespace:
    return restricted_namespace(client, "blue")


@pytest.fixture
def next_chart(tmp_path: Path) -> Path:
    """The chart of a later version, whose cycles have one more column."""
    chart = shutil.copytree(CHART, tmp_path / "next")
    file = chart / "files/crds/alignment.dev_alignmentcycles.yaml"
    definition = yaml.safe_load(file.read_text())
    column = {"name": "Store", "type": "string", "jsonPath": ".spec.store.uri"}
    definition["spec"]["versions"][0]["additionalPrinterColumns"].append(column)
    file.write_text(json.dumps(definition))
    return chart


def make_cycle(namespace: Namespace) -> str:
    """Its UID. Nobody asked it to run."""
    manifest: Json = yaml.safe_load((REPOSITORY / "examples/quickstart/cycle.yaml").read_text())
    del manifest["metadata"]["annotations"]
    return str(namespace.create("alignmentcycles", manifest)["metadata"]["uid"])


def served(namespace: Namespace) -> bool:
    found = namespace.get(*CYCLES, "quickstart")
    return found is not None and "observedGeneration" in found.get("status", {})


def columns(client: Client) -> list[str]:
    definition = client.get(DEFINITION)
    assert definition is not None
    return [column["name"] for column in definition["spec"]["versions"][0]["additionalPrinterColumns"]]


def test_a_release_lives_and_goes_without_touching_what_is_the_users(
    audited: Bed,
    client: Client,
    system: Namespace,
    red: Namespace,
    blue: Namespace,
    release: Release,
    next_chart: Path,
) -> None:
    release.put(INSTALL, {"watchNamespaces": ["red"]})
    uids = {namespace.name: make_cycle(namespace) for namespace in (red, blue)}
    wait_until(lambda: served(red), "the cycle in red is served")
    assert not served(blue)
    assert client.get(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{NAME}") is None

    release.upgrade({"watchNamespaces": ["red", "blue"]}, next_chart)
    wait_until(lambda: served(blue), "the cycle in blue is served")
    assert columns(client)[-1] == "Store"

    release.helm("rollback", NAME, "1", "--namespace", SYSTEM, "--wait", "--timeout", "180s")
    assert "Store" not in columns(client)
    assert blue.get("rbac.authorization.k8s.io/v1", "roles", NAME) is None
    release.helm("test", NAME, "--namespace", SYSTEM)

    release.helm("uninstall", NAME, "--namespace", SYSTEM, "--wait", "--timeout", "180s")
    assert system.list("apps/v1", "deployments") == []
    for namespace in (red, blue):
        kept = namespace.get(*CYCLES, "quickstart")
        assert kept is not None
        assert kept["metadata"]["uid"] == uids[namespace.name]
        assert "finalizers" not in kept["metadata"]

    # With nobody there to let them go, what is deleted is gone.
    blue.kubectl("delete", "alignmentcycle", "quickstart", "--timeout=10s")

    release.put(INSTALL, {"watchNamespaces": ["red"]})
    make_cycle(blue)
    red.kubectl(
        "patch",
        "alignmentcycle",
        "quickstart",
        "--type=merge",
        "-p",
        '{"spec": {"history": {"iterations": 9}}}',
    )
    up_to_date = lambda seen: seen["status"]["observedGeneration"] == seen["metadata"]["generation"]  # noqa: E731
    red.wait(*CYCLES, "quickstart", up_to_date, "it is served again")
    assert not served(blue)
    assert audit.forbidden(audited.control_plane.audit_log, NAME, SYSTEM) == []

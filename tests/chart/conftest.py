"""A cluster of its own for each module: the chart owns kinds and an operator that would meddle with other tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chart.charts import SYSTEM, Release
from tests.cluster.bed import Bed, BedOptions
from tests.cluster.client import Client, Namespace
from tests.cluster.processes import free_ports


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A test bed whose API server writes an audit log."""
    bed = Bed(BedOptions(tmp_path_factory.mktemp("cluster"), audit=True, crash_backoff_seconds=0.5))
    bed.start()
    try:
        yield bed
    finally:
        bed.remove()


@pytest.fixture(scope="module")
def client(audited: Bed) -> Iterator[Client]:
    with Client(audited.kubeconfig) as connected:
        yield connected


@pytest.fixture(scope="module")
def system(client: Client) -> Namespace:
    """Where the operator goes: only pods that meet the Pod Security Standard `restricted` are let in."""
    return restricted_namespace(client, SYSTEM)


@pytest.fixture(scope="module")
def release(audited: Bed, system: Namespace) -> Release:
    """Not installed yet."""
    return Release(audited.kubeconfig, free_ports(2))


def restricted_namespace(client: Client, name: str) -> Namespace:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    client.call("POST", "/api/v1/namespaces", manifest)
    return Namespace(client, name)

"""pytest fixtures: `pytest_plugins = ["tests.cluster.fixtures"]` in the root conftest, or in a test module.

`cluster` is one cluster for the whole session; ALIGNMENT_TEST_KUBECONFIG names one to use instead of our own.
`bed` is our own one, for tests that reach into it; they are skipped on another. `new_bed` makes more of them.
`namespace` is a namespace for one test. `cluster_images` may be overridden in a conftest.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.bed import Bed, BedOptions
from tests.cluster.client import Client, Namespace
from tests.cluster.images import Image
from tests.cluster.waiting import wait_until

KUBECONFIG_VARIABLE = "ALIGNMENT_TEST_KUBECONFIG"


@pytest.fixture(scope="session")
def cluster_images() -> tuple[Image, ...]:
    """Images of the session's test bed, beside the default ones."""
    return ()


@pytest.fixture(scope="session")
def _own_bed(
    tmp_path_factory: pytest.TempPathFactory, cluster_images: tuple[Image, ...]
) -> Iterator[Bed | None]:
    if os.environ.get(KUBECONFIG_VARIABLE):
        yield None
        return
    options = BedOptions(tmp_path_factory.mktemp("cluster"), images=cluster_images, crash_backoff_seconds=0.5)
    own = Bed(options)
    own.start()
    try:
        yield own
    finally:
        own.remove()


@pytest.fixture(scope="session")
def bed(_own_bed: Bed | None) -> Bed:
    """Our own cluster; skips the test if somebody else's is used."""
    if _own_bed is None:
        pytest.skip(f"{KUBECONFIG_VARIABLE} names a cluster that is not ours")
    return _own_bed


@pytest.fixture(scope="session")
def cluster(_own_bed: Bed | None) -> Iterator[Client]:
    """A cluster, as its admin."""
    client = Client(Path(os.environ[KUBECONFIG_VARIABLE]) if _own_bed is None else _own_bed.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def new_bed(tmp_path: Path) -> Iterator[Callable[..., Bed]]:
    """Make a running test bed of the test's own; arguments are those of BedOptions, without its folder."""
    made: list[Bed] = []

    def make(**options: Any) -> Bed:
        made.append(Bed(BedOptions(tmp_path / f"bed-{len(made)}", **options)))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.remove()


@pytest.fixture
def namespace(cluster: Client, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace for one test; what runs in it is killed afterwards."""
    yield from temporary_namespace(cluster, request.node.name)


def temporary_namespace(client: Client, title: str) -> Iterator[Namespace]:
    """A namespace whose name begins like `title`, ready for pods; it is deleted, but not waited for."""
    label = re.sub(r"[^a-z0-9]+", "-", title.lower().removeprefix("test_")).strip("-")[:40]
    name = f"{label}-{secrets.token_hex(3)}"
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    client.call("POST", "/api/v1/namespaces", manifest)
    made = Namespace(client, name)
    wait_until(lambda: made.get("v1", "serviceaccounts", "default"), "the namespace has its account")
    wait_until(lambda: made.get("v1", "configmaps", "kube-root-ca.crt"), "the namespace has its CA")
    try:
        yield made
    finally:
        client.delete(f"/api/v1/namespaces/{name}")
        client.delete(made.path("v1", "pods"), {"gracePeriodSeconds": 1})

"""pytest fixtures: `pytest_plugins = ["tests.cluster.fixtures"]` in the root conftest, or in a test module.

`cluster` is one cluster for the whole session; ALIGNMENT_TEST_KUBECONFIG names one to use instead of our own.
`bed` is our own one, for tests that reach into it; they are skipped on another. `new_bed` makes more of them.
`namespace` is a namespace for one test. `cluster_images` may be overridden in a conftest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.bed import Bed, BedOptions
from tests.cluster.client import Client, Namespace, temporary_namespace
from tests.cluster.images import Image

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
        pytest.skip(f"needs a cluster of our own to reach into: unset {KUBECONFIG_VARIABLE}, and it runs")
    return _own_bed


@pytest.fixture(scope="session")
def cluster(_own_bed: Bed | None) -> Iterator[Client]:
    """A cluster, as its admin."""
    path = Path(os.environ[KUBECONFIG_VARIABLE]) if _own_bed is None else _own_bed.kubeconfig
    with Client(path) as client:
        yield client


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
    with temporary_namespace(cluster, request.node.name) as made:
        yield made

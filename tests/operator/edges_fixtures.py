"""The operator's own client on a real API server.

`pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]` in a test module.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alignment_operator.cluster import Cluster, connect
from tests.cluster.client import Client
from tests.cluster.crds import serve
from tests.operator.edges import OnApi, T


@pytest.fixture(scope="session")
def crds(cluster: Client) -> None:
    """Both kinds are served."""
    serve(cluster)


@pytest.fixture
def on_api(cluster: Client, crds: None, monkeypatch: pytest.MonkeyPatch) -> OnApi[Any]:
    """Runs a coroutine function with the operator's own client of the real API server."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))

    def run(work: Callable[[Cluster], Awaitable[T]]) -> T:
        async def connected() -> T:
            async with connect() as api:
                return await work(api)

        return asyncio.run(connected())

    return run

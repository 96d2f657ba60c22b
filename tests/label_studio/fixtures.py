"""`pytest_plugins = ["tests.label_studio.fixtures"]` in a test module: one Label Studio for the whole session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.label_studio.server import Server


@pytest.fixture(scope="session")
def starting_label_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Not waited for: `ready()` does."""
    server = Server(tmp_path_factory.mktemp("label-studio"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def label_studio_server(starting_label_studio: Server) -> Server:
    return starting_label_studio.ready()

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.buckets.refreshing import Dataset
from tests.buckets.server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    started = Server(tmp_path_factory.mktemp("s3"))
    yield started
    started.stop()


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> Dataset:
    """With the server's own address and keys."""
    made = Dataset(tmp_path, monkeypatch)
    made.reach(server.url)
    return made


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> str:
    """Of the bucket, for one test alone."""
    return re.sub(r"\W+", "-", request.node.name).strip("-").lower()

"""`alignctl` as a user calls it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import ended

Alignctl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def alignctl(tmp_path: Path) -> Alignctl:
    """Runs it in a folder of its own, without a cluster; no traceback may ever show."""

    def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return ended(tmp_path, *arguments, stdin=stdin)

    return run

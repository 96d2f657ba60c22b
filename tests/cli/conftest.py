"""`alignctl` as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Alignctl = Callable[..., subprocess.CompletedProcess[str]]
PROGRAM = "from alignment_operator.cli.main import main; main()"


@pytest.fixture
def alignctl(tmp_path: Path) -> Alignctl:
    """Runs it in a folder of its own, without a cluster; no traceback may ever show."""

    def run(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "KUBECONFIG": str(tmp_path / "no-kubeconfig")},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run

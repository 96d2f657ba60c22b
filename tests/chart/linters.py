"""checkov, hadolint and kubernetes-validate, pinned by linters.txt."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.environments import programs

PINS = Path(__file__).with_name("linters.txt")


def complaints(tool: str, arguments: Sequence[str | Path]) -> str:
    """What a tool says when it fails; empty if it passes."""
    folder = programs(PINS)
    result = subprocess.run(
        [folder / tool, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
    )
    return (result.stdout + result.stderr) if result.returncode else ""

"""checkov, hadolint and kubernetes-validate, pinned by linters.txt, in an environment of their own in the cache.

They ask for other versions of what the operator is built on, so they can't share its environment.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tests.cluster.build import cache_root

PINS = Path(__file__).with_name("linters.txt")


def complaints(tool: str, arguments: Sequence[str | Path]) -> str:
    """What a tool says when it fails; empty if it passes."""
    command: list[str | Path] = [_environment() / tool, *arguments]
    environment = os.environ | {"PATH": f"{_environment()}:{os.environ['PATH']}"}
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=environment,
    )
    return (result.stdout + result.stderr) if result.returncode else ""


@cache
def _environment() -> Path:
    """The folder of its programs; made once, in about a minute."""
    digest = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:16]
    target = cache_root() / f"linters-{digest}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "linters.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Programs name the folder that they were installed into, so it can't be moved when it is complete.
        if not (target / "complete").exists():
            shutil.rmtree(target, ignore_errors=True)
            uv = Path(sys.prefix) / "bin" / "uv"
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, target], check=True)
            install: list[str | Path] = [
                uv,
                "pip",
                "install",
                "--quiet",
                "--python",
                target / "bin" / "python",
            ]
            subprocess.run([*install, "--require-hashes", "-r", PINS], check=True)
            (target / "complete").touch()
    return target / "bin"

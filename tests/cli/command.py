"""`alignctl` as a process of its own, ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

PROGRAM = "from alignment_operator.cli.main import main; main()"


def ended(
    folder: Path,
    *arguments: str | Path,
    kubeconfig: Path | None = None,
    called: str | None = None,
    stdin: str | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: int = 120,
) -> subprocess.CompletedProcess[str]:
    """In that folder, and without a cluster unless there is a kubeconfig; no traceback may ever show.

    `called` is the program's own name.
    """
    named = "" if called is None else f"import sys; sys.argv[0] = {called!r}; "
    done = subprocess.run(
        [sys.executable, "-c", named + PROGRAM, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "KUBECONFIG": str(kubeconfig or folder / "no-kubeconfig"), **(environment or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done

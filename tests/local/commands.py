"""`alignctl` in processes of its own, on one state folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

Manifest = dict[str, Any]
ALIGNCTL = [sys.executable, "-c", "from alignment_operator.cli.main import main; main()"]
DEADLINE_SECONDS = 60.0


class Alignctl:
    """Starts `alignctl` and ends what it started."""

    def __init__(self, tmp_path: Path, state: Path) -> None:
        self.state = state
        self.manifest = tmp_path / "cycle.yaml"
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*ALIGNCTL, *arguments, "--state", str(self.state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def run(self) -> subprocess.Popen[str]:
        return self.start("run", "-f", str(self.manifest))

    def ended(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs it to its end; no traceback may ever show."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=DEADLINE_SECONDS)
        assert "Traceback" not in errors, errors
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def cycle(self) -> Manifest:
        path = self.state / "objects" / "alignmentcycles" / "default" / "assistant.json"
        manifest: Manifest = json.loads(path.read_text())
        return manifest

    def end(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()

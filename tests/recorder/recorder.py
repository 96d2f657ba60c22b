"""The recorder as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.processes import free_ports
from tests.cluster.waiting import wait_until


class Recorder:
    """Ended with `with`; its log is complete then."""

    def __init__(self, upstream: int, folder: Path, *options: str) -> None:
        self.port, self._metrics = free_ports(2)
        self.folder = folder
        command = [sys.executable, "-m", "alignment_recorder", "--upstream", f"http://127.0.0.1:{upstream}"]
        command += ["--log", str(folder), "--port", str(self.port), "--metrics-port", str(self._metrics)]
        self.process = subprocess.Popen([*command, *options])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Recorder:
        wait_until(lambda: self._healthy() or None, "the recorder answers")
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            self.end()
        finally:
            self.process.kill()
            self.process.wait()

    def _healthy(self) -> bool:
        assert self.process.poll() is None, "the recorder ended"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/healthz") as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0

    def counted(self, name: str, label: str = "") -> float:
        """`name` without the prefix, `label` the value of its only label."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics") as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == f"alignment_recorder_{name}" and label in (*sample.labels.values(), "")
        )

    def wait_for(self, name: str, label: str = "", value: float = 1) -> None:
        wait_until(lambda: self.counted(name, label) == value or None, f"{name} {label} is {value}")


def logged(folder: Path) -> list[dict[str, Any]]:
    """In the order of time."""
    files = sorted(folder.glob("*/*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]

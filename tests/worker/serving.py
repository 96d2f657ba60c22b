"""A client of `python -m alignment_worker serve`: real processes for the tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from alignment_api.stage import StageConfig
from tests.worker import stages
from tests.worker.stages import Finished

DEADLINE_SECONDS = 120.0


@dataclass(frozen=True)
class Request:
    """A stage that was asked for and has started."""

    id: int
    pid: int
    job: Path
    config: StageConfig | None


class Server:
    """Started at once; ended with `with`. `program` is what Python runs."""

    def __init__(self, *program: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *(program or ("-m", "alignment_worker", "serve"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._last = 0
        self._exits: dict[int, int] = {}
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close_stdin()
        assert self._process.stdout is not None
        try:
            self._process.wait(DEADLINE_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def close_stdin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def ended(self) -> bool:
        return self._process.poll() is not None

    def start(
        self, argv: Sequence[str], log: Path, job: Path | None = None, config: StageConfig | None = None
    ) -> Request:
        assert self._process.stdin is not None
        self._last += 1
        number = self._last
        line = json.dumps({"id": number, "argv": list(argv), "log": str(log)})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        while True:
            said = self._read()
            if said["id"] == number:
                return Request(number, said["pid"], job or log.parent, config)

    def begin(self, job: Path, config: StageConfig) -> Request:
        argv = stages.argv(job, config)
        return self.start(argv, job / "log", job, config)

    def exit_of(self, request: Request) -> int:
        while request.id not in self._exits:
            self._read()
        return self._exits.pop(request.id)

    def finish(self, request: Request) -> Finished:
        assert request.config is not None
        return stages.finished(request.job, request.config, self.exit_of(request))

    def run(self, job: Path, config: StageConfig) -> tuple[int, Finished]:
        request = self.begin(job, config)
        return request.pid, self.finish(request)

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not holds():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server ended"
        said: dict[str, Any] = json.loads(line)
        if "exit" in said:
            self._exits[said["id"]] = said["exit"]
        return said


def gone(pid: int) -> bool:
    """Ended, and waited for."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"

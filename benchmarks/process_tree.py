"""What a command and everything that it starts cost: wall seconds, CPU seconds, peak memory. Linux only."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_INTERVAL_SECONDS = 0.1
_SHARE = 0.02  # of the time, at most, that looking takes: the kernel walks all pages of a process for its PSS


@dataclass(frozen=True)
class Cost:
    """`peak_mib` is the largest sum over the tree of PSS: pages that forked processes share count once."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    exit_status: int
    output: str


def cost_of(command: Sequence[str], environment: dict[str, str] | None = None) -> Cost:
    """Run the command to its end. CPU seconds are those of all descendants that were waited for."""
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        watched = Peak(process.pid)
        watched.start()
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        watched.stop()
    return Cost(
        wall_seconds=time.monotonic() - started,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=watched.peak_kib / 1024,
        exit_status=process.returncode,
        output=output,
    )


class Peak(threading.Thread):
    """Looks at the tree ten times a second, less often where that would slow it down."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.peak_kib = 0
        self._root = root
        self._ended = threading.Event()

    def run(self) -> None:
        pause = _INTERVAL_SECONDS
        while not self._ended.wait(pause):
            began = time.monotonic()
            self.peak_kib = max(self.peak_kib, sum(_pss_kib(pid) for pid in _tree(self._root)))
            pause = max(_INTERVAL_SECONDS, (time.monotonic() - began) / _SHARE)

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _tree(root: int) -> list[int]:
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                waiting += map(int, children.read_text().split())
    return found


def _pss_kib(pid: int) -> int:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return 0

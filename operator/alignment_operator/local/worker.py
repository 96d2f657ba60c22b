"""The warm worker of a local run: one process that has imported torch once and forks a child for every stage.

The protocol is that of `python -m alignment_worker serve`: JSON lines {"id", "argv", "log"} on its stdin, {"id", "pid"}
and {"id", "exit"} on its stdout. It ends, with its child, at the end of its stdin: when this process dies, so does it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from alignment_api.stage import Stage

COMMAND = (sys.executable, "-m", "alignment_worker", "serve")
_KILLED = 128 + signal.SIGKILL


class WorkerError(Exception):
    """The worker process itself does not start."""


def threads() -> int:
    """Cores that this process may use: one stage runs at a time, and gets them all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(
            cores, max(1, int(quota) // int(period))
        )  # a container's quota, which affinity does not show
    return cores


class WarmWorker:
    """Runs one stage at a time. `log` gets what the process itself says."""

    def __init__(self, log: Path, stages: Sequence[Stage] = ()) -> None:
        """`stages` are those that it imports for; none: all."""
        self._log = log
        self._command = (*COMMAND, *stages)
        self._process: asyncio.subprocess.Process | None = None
        self._environment: Mapping[str, str] = {}
        self._requests = 0
        self.stage_pid: int | None = None

    @property
    def pid(self) -> int | None:
        """Of the warm process, while it lives."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self, environment: Mapping[str, str]) -> None:
        """Begin to import; a process with another environment is replaced."""
        if self.pid is not None and self._environment == environment:
            return
        await self.close()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        # Threads that spin while they wait take the cores from whatever else runs here: ten times slower was measured.
        inherited = {"OMP_NUM_THREADS": str(threads()), "OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**inherited, **environment},
                start_new_session=True,  # Ctrl-C is for us; we tell the worker
            )
        self._environment = dict(environment)

    async def run(
        self, argv: Sequence[str], log: Path, environment: Mapping[str, str], grace_seconds: float
    ) -> int:
        """The stage's exit code, 128 + signal if it was killed, as kubelet says it.

        Cancelled, it ends the stage: SIGTERM, and SIGKILL after the grace. Raises WorkerError.
        """
        await self.start(environment)
        self._requests += 1
        request = {"id": self._requests, "argv": list(argv), "log": str(log)}
        answer = asyncio.ensure_future(self._ask(request))
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            if self.stage_pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(self.stage_pid, signal.SIGTERM)
                with suppress(TimeoutError, WorkerError):
                    await asyncio.wait_for(asyncio.shield(answer), grace_seconds)
            if not answer.done():
                self.kill()
                with suppress(WorkerError):
                    await answer
            raise
        finally:
            self.stage_pid = None

    def kill(self) -> None:
        """The process and its child, at once."""
        if self.pid is not None:
            _kill_group(self.pid)

    async def close(self) -> None:
        """End the process, which has no stage any more and so nothing to lose, and wait for it."""
        self.kill()
        if self._process is not None:
            await self._process.wait()

    async def _ask(self, request: Mapping[str, Any]) -> int:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(ConnectionError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
        while line := await process.stdout.readline():
            said = _parsed(line)
            if said.get("id") != request["id"]:
                continue
            if "pid" in said:
                self.stage_pid = said["pid"]
            if "exit" in said:
                code: int = said["exit"]
                return code if code >= 0 else 128 - code
        return await self._died(process)

    async def _died(self, process: asyncio.subprocess.Process) -> int:
        if self.stage_pid is not None:  # killed in mid-stage, by the kernel for want of memory perhaps
            _kill_group(process.pid)
            await process.wait()
            return _KILLED
        code = await process.wait()
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = f": {said[-1]}" if said else ""
        raise WorkerError(f"the worker process ended before any stage (exit {code}){why}; see {self._log}")


def _kill_group(pid: int) -> None:
    """The process is the leader of its own session, so this is it and its children, nobody else."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _parsed(line: bytes) -> dict[str, Any]:
    """Libraries print to stdout too; what is not of the protocol counts for nothing."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}

"""One run of a container: the shim as a process, its exit code and its termination message."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.cluster.api import Json

_SHIM = str(Path(__file__).with_name("shim.py"))

# The kubelet's limits: bytes of a message, and bytes and lines of a log that stands in for one.
MESSAGE_BYTES = 4096
LOG_BYTES, LOG_LINES = 2048, 80


class StartError(Exception):
    """The program could not be started; the message is the shim's."""


@dataclass(frozen=True)
class ContainerSpec:
    """What the shim needs to know; see shim.py for each field's use."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    hostname: str
    log: str
    mounts: list[Json]
    scratch: str
    open_paths: list[str]
    read_only_root: bool
    uid: int
    gid: int
    groups: list[int]
    drop_capabilities: bool
    no_new_privileges: bool


class ContainerProcess:
    """A container that was started. `address` is its pod's."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self._process = process
        self.address = address

    @property
    def pid(self) -> int:
        """The shim's process id; the container's first process is its only child."""
        return self._process.pid

    async def wait(self) -> int:
        """Its exit code, 128 + the signal if a signal ended it."""
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    def terminate(self) -> None:
        """SIGTERM to its first process."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        self._signal(signal.SIGUSR1)

    def inner_pid(self) -> int:
        """Process id, as the host sees it, of its first process."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0])

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)


async def start(spec: ContainerSpec, folder: Path, address: str) -> ContainerProcess:
    """Start a container, with `folder` for its scratch files; returns when its program runs. StartError."""
    spec_file = _prepare(spec, folder)
    reader, writer = os.pipe()
    try:
        command = (sys.executable, "-I", "-S", _SHIM, str(spec_file), str(writer), str(os.getpid()))
        process = await asyncio.create_subprocess_exec(
            *command, pass_fds=[writer], stdin=asyncio.subprocess.DEVNULL, start_new_session=True
        )
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    if message := await _read_to_end(reader):
        await process.wait()
        raise StartError(message)
    return ContainerProcess(process, address)


def _prepare(spec: ContainerSpec, folder: Path) -> Path:
    Path(spec.scratch).mkdir(parents=True, exist_ok=True)
    Path(spec.log).parent.mkdir(parents=True, exist_ok=True)
    file = folder / "spec.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(asdict(spec)))
    return file


async def _read_to_end(descriptor: int) -> str:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        try:
            return (await reader.read()).decode(errors="replace")
        finally:
            transport.close()


def termination_message(container: Json, code: int, file: Path, log: Path) -> str:
    """What the container left to say, cut as the kubelet does."""
    message = file.read_bytes()[:MESSAGE_BYTES] if file.exists() else b""
    if (
        not message
        and code
        and container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        and log.exists()
    ):
        message = b"\n".join(log.read_bytes()[-LOG_BYTES:].splitlines()[-LOG_LINES:])
    return message.decode(errors="replace")

"""`python -m alignment_worker.python_grader --socket PATH`: grades until SIGTERM.

A connection is one question and one answer, each a JSON object on a line: `{"test", "code"}`, and `{"right": bool}` or
`{"error": text}` if it could not be tried. It runs as many programs at once as there are cores and memory for.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from alignment_worker.python_grader import sandbox
from alignment_worker.python_grader.examiner import NO_SANDBOX, PASSED
from alignment_worker.python_grader.program import names_needed

MAX_QUESTION_BYTES = 8 << 20
WALL_SECONDS = 30.0  # for programs that wait; for those that compute, sandbox.CPU_SECONDS
MOST_THREADS = 64  # of a process
MOST_AT_ONCE = 8
EXIT_NO_ISOLATION = 3
_LOOK_SECONDS = 0.02
_EACH_BYTES = 2 * sandbox.MEMORY_BYTES + (32 << 20)

_SOURCES = str(Path(__file__).parents[2])
# The standard library and nothing else; the environment as given, for -I would ignore PYTHONHASHSEED.
PYTHON = (sys.executable, "-P", "-s", "-S", "-B", "-X", "faulthandler=0")
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}


def command(module: str, *args: str) -> list[str]:
    """One of this package's modules, as a process without the libraries of this one."""
    code = (
        f"import sys; sys.path.insert(0, {_SOURCES!r}); from alignment_worker.python_grader import {module}; "
    )
    return [*PYTHON, "-c", f"{code}sys.path.pop(0); sys.exit({module}.main())", *args]


class GradingError(Exception):
    """A program could not be tried: that says nothing of it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m alignment_worker.python_grader")
    parser.add_argument("--socket", type=Path, required=True, help="where to listen; nobody may have it yet")
    parser.add_argument(
        "--of-one-process",
        action="store_true",
        help="not in a container: end with stdin, the socket's folder too, and refuse if files can be read",
    )
    arguments = parser.parse_args()
    path: Path = arguments.socket
    sandbox.hide()
    if arguments.of_one_process:
        threading.Thread(target=_end_with_stdin, args=(path.parent,), daemon=True).start()
    at_once, problem = _at_once()
    problem = problem or _problem(require_landlock=arguments.of_one_process)
    if problem:
        print(f"the grader Python refuses to run: {problem}", flush=True)
        return EXIT_NO_ISOLATION
    _serve(path, at_once)
    return 0


def _end_with_stdin(folder: Path) -> None:
    """The programs that run die with this process."""
    sys.stdin.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def isolation() -> str:
    """What keeps programs in, in words."""
    version = sandbox.landlock_version()
    files = (
        f"Landlock (ABI {version})"
        if version
        else "no Landlock: programs can read the files of this container"
    )
    return f"processes, network and writes: seccomp; files: {files}"


def grade(test: str, code: str) -> bool:
    """Whether the test program runs to its end with the completion's code. Raises GradingError."""
    try:
        given = json.dumps({"code": code, "names": sorted(names_needed(test))}).encode()
    except ValueError as error:
        raise GradingError(str(error)) from error
    with _Pipe() as to_examiner, _Pipe() as to_candidate:
        examiner = candidate = None
        try:
            examiner = _start("examiner", to_examiner.reads, to_candidate.writes, says=subprocess.PIPE)
            candidate = _start("candidate", to_candidate.reads, to_examiner.writes)
            for pipe in (to_examiner, to_candidate):
                pipe.close()
            _tell(examiner, test.encode("utf-8", "surrogatepass"))
            _tell(candidate, given)
            ended = _exit_code(examiner, candidate)
            if ended is None:
                return False
            assert examiner.stdout is not None
            said = examiner.stdout.read(len(PASSED) + 1)  # nobody else could write there
        except OSError as error:
            raise GradingError(f"no process can be started: {error.strerror}") from error
        finally:
            for process in (examiner, candidate):
                if process is not None:
                    _end(process)
    if ended == NO_SANDBOX:
        raise GradingError("a process could not be confined")
    return ended == 0 and said == PASSED


class _Pipe:
    """Closed once: a number may be another file's by then."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        self._open = True

    def close(self) -> None:
        if self._open:
            self._open = False
            os.close(self.reads)
            os.close(self.writes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start(module: str, *descriptors: int, says: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(module, str(os.getpid()), *map(str, descriptors)),
        stdin=subprocess.PIPE,
        stdout=says,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
        env=ENVIRONMENT,
        cwd="/",
        start_new_session=True,
    )


def _exit_code(examiner: subprocess.Popen[bytes], candidate: subprocess.Popen[bytes]) -> int | None:
    """The examiner's; None if that takes too long, or if one of both has too many threads.

    A raw `clone` makes a thread out of nearly no memory, so that no limit of sandbox.py ends it before the machine's.
    """
    deadline = time.monotonic() + WALL_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return examiner.wait(_LOOK_SECONDS)
        if max(_threads(examiner), _threads(candidate)) > MOST_THREADS:
            return None
    return None


def _threads(process: subprocess.Popen[bytes]) -> int:
    """0 of a process that has ended. proc_pid_stat(5), the field num_threads."""
    try:
        return int(Path(f"/proc/{process.pid}/stat").read_bytes().rpartition(b")")[2].split()[17])
    except (OSError, IndexError):
        return 0


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()  # it has no children: it could not start any
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _tell(process: subprocess.Popen[bytes], data: bytes) -> None:
    """Both read all of it before they run a program."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(data)


_REFUSED = "try: reach()\nexcept PermissionError: pass\nelse: raise SystemExit"
_SELF_TESTS = (
    ("assert answer() == 42", "def answer(): return 42", True),
    ("assert answer() == 42", "def answer(): return 41", False),
    (_REFUSED, "import socket\ndef reach(): socket.socket()", True),
    (_REFUSED, "import os\ndef reach(): os.fork()", True),
    (_REFUSED, "def reach(): open('/dev/null', 'w')", True),
)
_FILE_TEST = (_REFUSED, "def reach(): open('/etc/passwd').close()")


def _problem(*, require_landlock: bool) -> str:
    """Why programs would not be confined here; empty if they are. It is tried, not believed."""
    try:
        for test, code, right in _SELF_TESTS:
            if grade(test, code) != right:
                return f"seccomp does not confine processes here ({code!r} against {test!r})"
        if require_landlock and not grade(*_FILE_TEST):
            return (
                "programs could read this machine's files: its kernel has no Landlock (Linux 5.13 or later, with "
                "landlock among CONFIG_LSM or on the kernel's command line lsm=)"
            )
    except GradingError as error:
        return str(error)
    return ""


def _serve(path: Path, at_once: int) -> None:
    """Until SIGTERM."""
    slots = threading.BoundedSemaphore(at_once)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
                question = json.loads(self.rfile.readline(MAX_QUESTION_BYTES))
                with slots:
                    said = _answered(question["test"], question["code"])
                self.wfile.write(json.dumps(said).encode() + b"\n")

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True
        request_queue_size = MOST_AT_ONCE

    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # programs die with it
    path.unlink(missing_ok=True)  # of a container that was restarted
    waiting = path.with_name(f"{path.name}.new")
    waiting.unlink(missing_ok=True)
    with Server(str(waiting), Handler) as server:
        waiting.chmod(0o666)  # the worker is another user
        waiting.rename(path)  # who finds it can use it
        print(f"grader Python: {at_once} at once; {isolation()}", flush=True)
        server.serve_forever()


def _answered(test: str, code: str) -> dict[str, bool | str]:
    try:
        return {"right": grade(test, code)}
    except GradingError as error:
        return {"error": str(error)}


def _at_once() -> tuple[int, str]:
    """How many, and why none."""
    cores = len(os.sched_getaffinity(0))
    memory = MOST_AT_ONCE * _EACH_BYTES
    for limit in _cgroup("cpu.max"):
        quota, _, period = limit.partition(" ")
        cores = min(cores, max(1, int(quota) // int(period)))
    for limit in _cgroup("memory.max"):
        memory = min(memory, int(limit))
    if memory < _EACH_BYTES:
        least = _EACH_BYTES >> 20
        return 0, f"its container's limit of memory is {memory >> 20} MiB; a program may take {least} MiB"
    return min(cores, memory // _EACH_BYTES, MOST_AT_ONCE), ""


def _cgroup(name: str) -> Iterator[str]:
    """The container's own limit, where there is one (cgroup v2)."""
    with contextlib.suppress(OSError):
        text = Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
        if not text.startswith("max"):
            yield text

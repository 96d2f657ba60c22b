"""Asks the grader Python, and takes nothing from it but true or false."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alignment_api import telemetry
from alignment_api.python_grader import SOCKET_VARIABLE
from alignment_worker.failures import InvalidConfigError, PythonGraderError
from alignment_worker.python_grader import server
from alignment_worker.python_grader.program import code_of

START_SECONDS = 60.0
_MAX_ANSWER_BYTES = 4096
# All that are asked at once may wait for one slot.
_ANSWER_SECONDS = server.MOST_AT_ONCE * (server.WALL_SECONDS + 5.0)


def right(questions: Sequence[tuple[str, str]]) -> list[bool]:
    """Of each test program and completion, whether the one runs to its end with the other.

    By the container beside this one, or else, without a cluster, by a process of this machine. Raises
    PythonGraderError, InvalidConfigError if this machine cannot confine programs.
    """
    distinct = list(dict.fromkeys((test, code_of(completion)) for test, completion in questions))
    if not distinct:
        return []
    path = _grader()
    with ThreadPoolExecutor(server.MOST_AT_ONCE) as asking:
        found = dict(zip(distinct, asking.map(lambda each: _ask(path, *each), distinct), strict=True))
    return [found[test, code_of(completion)] for test, completion in questions]


def check() -> None:
    """Where this process would have to confine programs itself, whether it can. Raises as `right`.

    A pod always has its own address; only that of a stage that grades has the container, too.
    """
    if not os.environ.get(telemetry.ADDRESS_VARIABLE):
        _own.path()


class _Own:
    """The grader of this process, without a cluster: started when it is first needed, gone when this process is."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._path = Path()

    def path(self) -> Path:
        """Raises InvalidConfigError, PythonGraderError."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        return self._path

    def _start(self) -> None:
        self.end()
        self._path = Path(tempfile.mkdtemp(prefix="grader-"), "socket")
        self._process = subprocess.Popen(
            server.command("server", "--socket", str(self._path), "--of-one-process"),
            env=server.ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        if self._path.exists():
            print(said, file=sys.stderr, flush=True)
            return
        code = self._process.wait()
        self.end()
        if code == server.EXIT_NO_ISOLATION:
            raise InvalidConfigError(
                f"spec.evaluation.pythonGrader: {said}. Run the cycle on a cluster, or take the rows with the grader "
                "Python out."
            )
        raise PythonGraderError(f"the grader Python did not start (exit {code}): {said[-500:]}")

    def end(self) -> None:
        if self._process is not None:
            with self._process as process:
                self._process = None
                process.terminate()
            shutil.rmtree(self._path.parent, ignore_errors=True)


_own = _Own()
atexit.register(_own.end)


def _grader() -> Path:
    given = os.environ.get(SOCKET_VARIABLE)
    if not given:
        return _own.path()
    deadline = time.monotonic() + START_SECONDS
    while not Path(given).exists():
        if time.monotonic() > deadline:
            raise PythonGraderError(
                f"the grader Python did not start within {START_SECONDS:.0f} s; the log of the pod's container "
                "`grader` says why"
            )
        time.sleep(0.05)
    return Path(given)


def _ask(path: Path, test: str, code: str) -> bool:
    question = json.dumps({"test": test, "code": code}).encode() + b"\n"
    if len(question) > server.MAX_QUESTION_BYTES:
        return False  # nobody writes such an answer
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(_ANSWER_SECONDS)
            link.connect(str(path))
            link.sendall(question)
            with link.makefile("rb") as file:
                said = json.loads(file.readline(_MAX_ANSWER_BYTES))
    except (OSError, ValueError) as error:
        raise PythonGraderError(
            f"the grader Python ended while it was asked: {error or 'no answer'}"
        ) from error
    match said:
        case {"right": bool(verdict)}:
            return verdict
        case {"error": str(why)}:
            raise PythonGraderError(f"the grader Python could not try a program: {why[:500]}")
    raise PythonGraderError(f"the grader Python gave an answer that is none: {str(said)[:200]}")

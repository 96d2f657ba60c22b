"""The process of the test program. Only its own end says that the completion is right; the completion, in another
process, neither sees the test program nor reaches this one.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from alignment_worker.processes import die_with_parent
from alignment_worker.python_grader import sandbox
from alignment_worker.python_grader.exchange import CALL, Peer
from alignment_worker.python_grader.program import names_needed

PASSED = b"passed"
NO_SANDBOX = 97  # exit code: one of the two processes never got as far as its program


def main() -> NoReturn:
    """`PARENT READ WRITE`, a process and file descriptors; the test program on stdin, the verdict on stdout."""
    try:
        _run(*map(int, sys.argv[1:]))
    finally:
        os._exit(1)


def _run(parent: int, reads: int, writes: int) -> None:
    die_with_parent(parent)
    verdict = os.dup(1)
    os.dup2(2, 1)  # where what is printed is lost
    test = sys.stdin.buffer.read().decode("utf-8", "surrogatepass")
    needed = names_needed(test)
    try:
        sandbox.enter()
    except (sandbox.SandboxError, OSError, ValueError):
        os._exit(NO_SANDBOX)
    peer = Peer(reads, writes, CALL)
    if peer.receive() != {"ready": True}:
        os._exit(NO_SANDBOX)
    peer.send({"ready": True})
    defined = peer.receive()
    if defined is None or not isinstance(names := defined.get("names"), dict):
        return
    # No other: the completion has no say in what `len` is, or a module that the test imports.
    given = {name: peer.decode(wire) for name, wire in names.items() if name in needed}
    exec(compile(test, "test", "exec"), {"__name__": "test", **given})  # noqa: S102 - in the sandbox
    os.write(verdict, PASSED)
    os._exit(0)

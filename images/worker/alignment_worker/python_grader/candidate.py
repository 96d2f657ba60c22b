"""The process of the completion: runs it, then does what the test program asks of what it has defined."""

from __future__ import annotations

import json
import os
import sys
from types import ModuleType
from typing import NoReturn

from alignment_worker.processes import die_with_parent
from alignment_worker.python_grader import sandbox
from alignment_worker.python_grader.exchange import ALL, Peer

_MODULE = "solution"


def main() -> NoReturn:
    """`PARENT READ WRITE`, a process and file descriptors; on stdin JSON: `code`, and the `names` needed of it."""
    try:
        _run(*map(int, sys.argv[1:]))
    finally:
        os._exit(1)  # at once: threads that were left go too


def _run(parent: int, reads: int, writes: int) -> None:
    die_with_parent(parent)
    given = json.loads(sys.stdin.buffer.read())
    sandbox.enter()
    peer = Peer(reads, writes, ALL)
    peer.send({"ready": True})
    if peer.receive() is None:  # not before the examiner is hidden
        return
    module = ModuleType(_MODULE)
    sys.modules[_MODULE] = module  # where dataclasses look for their annotations
    exec(compile(given["code"], _MODULE, "exec"), module.__dict__)  # noqa: S102 - in the sandbox
    found = {name: module.__dict__[name] for name in given["names"] if name in module.__dict__}
    peer.send({"names": {name: peer.encode(value) for name, value in found.items()}})
    while (frame := peer.receive()) is not None:
        peer.serve(frame)

"""`python -m alignment_worker serve [STAGE …]`: the warm process of a local run.

It imports once what those stages need, by default all of them, and forks a child for every stage. On stdin, JSON lines
`{"id", "argv", "log"}`; on stdout, `{"id", "pid"}` when the child starts and `{"id", "exit"}` when it ends: its exit
code, or the signal's negative number. At the end of stdin it ends, and its children with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from alignment_api.stage import Stage
from alignment_worker.main import main
from alignment_worker.processes import die_with_parent

_GRACE_SECONDS = 3.0


def serve(stages: Sequence[Stage]) -> int:
    """Until the end of stdin. No tensor operation runs before a fork: thread pools do not survive one."""
    for stage in stages or Stage:
        importlib.import_module(f"alignment_worker.{stage.value}")
    if not stages:
        _import_models()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command that started this process
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the replies
    _Server(replies).run()
    return 0


def _import_models() -> None:
    for name in ("torch", "transformers", "trl"):
        importlib.import_module(name)
    from transformers import (  # noqa: PLC0415, F401 - loaded on first use otherwise, in every child anew
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
    )


class _Server:
    def __init__(self, replies: Any) -> None:
        self._replies = replies
        self._children: dict[int, object] = {}  # by process id, the request's id
        self._unread = b""
        self._woken, self._wake = os.pipe()
        for descriptor in (self._woken, self._wake):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while self._turn([key.fd for key, _ in selector.select()]):
                pass
            self._end(selector)

    def _turn(self, ready: list[int]) -> bool:
        """False at the end of stdin."""
        if self._woken in ready:
            self._reap()
        if 0 not in ready:
            return True
        data = os.read(0, 1 << 16)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._start(json.loads(line))
        return bool(data)

    def _start(self, request: dict[str, Any]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            _child(request, parent)
        self._children[pid] = request["id"]
        self._reply({"id": request["id"], "pid": pid})

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._woken, 4096):
                pass
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._reply({"id": self._children.pop(pid), "exit": os.waitstatus_to_exitcode(status)})

    def _end(self, selector: selectors.BaseSelector) -> None:
        selector.unregister(0)
        deadline = time.monotonic() + _GRACE_SECONDS
        self._signal(signal.SIGTERM)
        while self._children:
            selector.select(max(0.0, deadline - time.monotonic()))
            self._reap()
            if time.monotonic() >= deadline:
                self._signal(signal.SIGKILL)
                deadline = time.monotonic() + _GRACE_SECONDS

    def _signal(self, number: int) -> None:
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _reply(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(message), file=self._replies, flush=True)


def _child(request: dict[str, Any], parent: int) -> NoReturn:
    """The stage, in a fork; never returns into the server's loop."""
    code = 1
    try:
        die_with_parent(parent)
        for number in (signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        code = main(request["argv"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever it is, a fork must not go on as the server
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

"""SIGTERM while coroutines run."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from alignment_worker.failures import Interrupted

_T = TypeVar("_T")


def run_interruptibly(work: Coroutine[Any, Any, _T]) -> _T:
    """SIGTERM cancels it: an exception out of the usual handler is lost where a transport catches it.

    Raises Interrupted, and what `work` raises.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        return asyncio.run(_cancelled_by_signal(work))
    except asyncio.CancelledError as error:
        raise Interrupted from error
    finally:
        signal.signal(signal.SIGTERM, before)


async def _cancelled_by_signal(work: Coroutine[Any, Any, _T]) -> _T:
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await work
    finally:
        loop.remove_signal_handler(signal.SIGTERM)

"""Waiting for conditions, never for time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.03


class DeadlineError(AssertionError):
    """A condition did not come true before its deadline."""


def wait_until(condition: Callable[[], T | None], what: str, seconds: float = 30.0) -> T:
    """Return the first truthy value of `condition`.

    Raises DeadlineError, naming `what`, after `seconds`; an exception of `condition` is raised at once.
    """
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise DeadlineError(f"not within {seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)

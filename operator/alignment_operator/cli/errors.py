"""Exit status, and the one message that goes to stderr."""

from __future__ import annotations

from enum import IntEnum
from typing import IO, Any

import click


class Exit(IntEnum):
    """What `alignctl` says by its exit status."""

    PROMOTED = 0
    FAILED = 1
    INVALID = 2
    REJECTED = 3
    HELD = 4
    INTERRUPTED = 130


class CommandError(click.ClickException):
    """One clear message on stderr, and an exit status."""

    def __init__(self, message: str, status: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = int(status)  # type: ignore[misc] # click's own use of a class variable

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.message}", file=file, err=True)

"""Reads the store of a local run, by the worker's package in a process of its own: this one never opens an artifact."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from alignment_api import digests, uris
from alignment_api.iteration_report import ReadingConfig, read_by
from alignment_operator.local.claims import Claims

COMMAND = (sys.executable, "-m", "alignment_worker.iteration_report")


class ReadingError(Exception):
    """The store could not be read; one line says why."""


class LocalStore:
    """Finished stages in the folders that stand for claims."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims

    async def read(self, config: ReadingConfig) -> bytes:
        """The answer to the config. Raises ReadingError."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "config.json"
            file.write_bytes(digests.canonical_json(config.to_wire()))
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                "--config",
                str(file),
                *self._flags(read_by(config)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            said, errors = await process.communicate()
        if process.returncode:
            lines = errors.decode(errors="replace").strip().splitlines() or [f"exit {process.returncode}"]
            raise ReadingError(lines[-1].removeprefix("error: "))
        return said

    def _flags(self, read: list[str]) -> list[str]:
        return [
            part
            for claim in uris.claims_of(read)
            for part in ("--claim", f"{claim}={self._claims.path(f'pvc://{claim}')}")
        ]

"""Deleting folders of the store, so that none that is half deleted looks whole."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

_MARK = ".collected-"


def delete(folder: Path) -> None:
    """Renamed first: killed half-way, it leaves no folder that looks whole. Raises OSError."""
    if folder.is_file():  # a report
        folder.unlink()
        return
    trash = folder.with_name(f"{_MARK}{folder.name}-{secrets.token_hex(4)}")
    folder.rename(trash)
    shutil.rmtree(trash)


def sweep(folder: Path, pattern: str = "") -> None:
    """What an attempt that was killed had renamed in a folder and not yet deleted."""
    for trash in folder.glob(f"{pattern}{_MARK}*"):
        shutil.rmtree(trash, ignore_errors=True)

"""Whether a model in a folder of this machine is signed, asked of the worker's package in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

COMMAND = (sys.executable, "-m", "alignment_worker.signatures")


def problem(folder: Path, public_keys: Sequence[str]) -> str:
    """Why `model.sig` in the folder is of none of these keys, PEM, in one line; empty if it is of one."""
    if not importlib.util.find_spec("alignment_worker"):
        return f"{folder}: its signature is not looked at without the worker. pip install 'alignment-operator[worker]'"
    with tempfile.TemporaryDirectory() as scratch:
        files = [Path(scratch) / f"{index}.pem" for index in range(len(public_keys))]
        for file, key in zip(files, public_keys, strict=True):
            file.write_text(key)
        flags = [word for file in files for word in ("--public-key", str(file))]
        done = subprocess.run([*COMMAND, str(folder), *flags], capture_output=True, check=False)
    if done.returncode == 0:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"{folder}: its signature could not be looked at (exit {done.returncode})"

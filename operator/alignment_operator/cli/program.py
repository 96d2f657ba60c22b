"""How this program was called, so that what it tells people to type can be copied."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

_NAME = "alignctl"


def is_plugin() -> bool:
    """`kubectl align`: the name that kubectl looks for."""
    return Path(sys.argv[0]).stem == "kubectl-align"


def program() -> str:
    """`alignctl` if the PATH leads to it, else its path as it was typed; or `kubectl align`."""
    if is_plugin():
        return "kubectl align"
    called = Path(sys.argv[0])
    if called.stem != _NAME:
        return _NAME
    found = shutil.which(_NAME)
    return _NAME if found and Path(found).resolve() == called.resolve() else shlex.quote(sys.argv[0])

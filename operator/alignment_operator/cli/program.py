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


def command(verb: str, name: str, state: Path) -> str:
    """What to type to say a verb of a cycle in a state folder."""
    elsewhere = "" if state == Path(".alignment") else f" --state {shlex.quote(str(state))}"
    return f"{program()} {verb} {name}{elsewhere}"


def program() -> str:
    """`alignctl` if the PATH leads to it, else its path as it was typed; or `kubectl align`."""
    if is_plugin():
        return "kubectl align"
    called = Path(sys.argv[0])
    if called.stem != _NAME:
        return _NAME
    found = shutil.which(_NAME)
    return _NAME if found and Path(found).resolve() == called.resolve() else shlex.quote(sys.argv[0])

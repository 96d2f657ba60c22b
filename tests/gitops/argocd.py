"""Argo CD's health check as Argo CD runs it: Lua 5.1 with only the base and table libraries, and `obj`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lupa.lua51 import LuaRuntime

EXAMPLES = Path(__file__).parents[2] / "examples" / "gitops"
SCRIPT = EXAMPLES / "argocd" / "health.lua"
_ABSENT = ("string", "math", "io", "os", "debug", "coroutine", "require", "python")


def health(manifest: dict[str, Any]) -> tuple[str, str]:
    """The status and the message that Argo CD shows of an object."""
    lua = LuaRuntime(register_builtins=False)
    lua_globals = lua.globals()
    for name in _ABSENT:
        lua_globals[name] = None
    lua_globals["obj"] = lua.table_from(manifest, recursive=True)
    said = lua.execute(SCRIPT.read_text())
    return str(said["status"]), str(said["message"])

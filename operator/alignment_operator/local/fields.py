"""Server-side apply and JSON merge patch on plain maps, as the API server does them.

https://kubernetes.io/docs/reference/using-api/server-side-apply/, RFC 7386. Lists count as one value: what is
applied here (ConfigMaps) has none.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from alignment_operator.api import ConflictError, Manifest

Path = tuple[str, ...]
_IDENTITY = {("apiVersion",), ("kind",)} | {
    ("metadata", key) for key in ("name", "namespace", "uid", "resourceVersion")
}


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386: maps merge by key, null removes, anything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def applied(live: Manifest, wanted: Manifest, manager: str, *, force: bool) -> Manifest:
    """The live object with the wanted fields, which the manager owns from now on.

    Fields that it owned and no longer wants are removed. Raises ConflictError if a field that it does not own has
    another value, unless forced.
    """
    result = copy.deepcopy(live)
    entries = result["metadata"].pop("managedFields", [])
    owned = {path for entry in entries if entry["manager"] == manager for path in _paths(entry["fieldsV1"])}
    fields = dict(_leaves(wanted))
    taken = sorted(
        ".".join(path)
        for path, value in fields.items()
        if path not in owned and _value(live, path) not in (None, value)
    )
    if taken and not force:
        raise ConflictError(f"another manager owns {', '.join(taken)}")
    for path in owned - set(fields):
        _remove(result, path)
    for path, value in fields.items():
        _set(result, path, value)
    others = [entry for entry in entries if entry["manager"] != manager]
    result["metadata"]["managedFields"] = [*others, _entry(manager, fields)]
    return result


def _leaves(value: Manifest, prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    for key, item in value.items():
        path = (*prefix, key)
        if isinstance(item, dict) and item:
            yield from _leaves(item, path)
        elif path not in _IDENTITY:
            yield path, item


def _entry(manager: str, fields: dict[Path, Any]) -> Manifest:
    tree: Manifest = {}
    for path in fields:
        node = tree
        for key in path:
            node = node.setdefault(f"f:{key}", {})
    return {"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": tree}


def _paths(tree: Manifest, prefix: Path = ()) -> Iterator[Path]:
    for key, below in tree.items():
        path = (*prefix, key.removeprefix("f:"))
        if below:
            yield from _paths(below, path)
        else:
            yield path


def _value(live: Manifest, path: Path) -> Any:
    node: Any = live
    for key in path:
        if not isinstance(node, dict) or key not in node:
            return None
        node = node[key]
    return node


def _set(live: Manifest, path: Path, value: Any) -> None:
    node = live
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = copy.deepcopy(value)


def _remove(live: Manifest, path: Path) -> None:
    node = _value(live, path[:-1])
    if isinstance(node, dict):
        node.pop(path[-1], None)

"""Structural schemas as trees: walking them, and saying what is said twice only once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]


def children(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    """What is directly below, by its path: `a.b` for a field, `a[]` for a list's items, `a.*` for a map's values."""
    for name, field in schema.get("properties", {}).items():
        yield f"{path}.{name}" if path else name, field
    if "items" in schema:
        yield f"{path}[]", schema["items"]
    if "additionalProperties" in schema:
        yield f"{path}.*", schema["additionalProperties"]


def without(schema: Schema, *keywords: str) -> Schema:
    """The schema without these keywords, on every level."""
    kept = {key: value for key, value in schema.items() if key not in keywords}
    return _changed("", kept, lambda _, inner: without(inner, *keywords))


def repeats(path: str, schema: Schema, least: int = 1) -> dict[str, str]:
    """Objects with the fields of an earlier one, but for defaults: its path by theirs. Not what is below them.

    Only of objects with `least` fields, on all levels together.
    """
    seen: dict[str, str] = {}
    found: dict[str, str] = {}

    def search(here: str, schema: Schema) -> None:
        if "properties" in schema and _size(schema) >= least:
            fields = json.dumps(without(schema, "default")["properties"])
            if fields in seen:
                found[here] = seen[fields]
                return
            seen[fields] = here
        for place, inner in children(here, schema):
            search(place, inner)

    search(path, schema)
    return found


def _size(schema: Schema) -> int:
    """Fields on all levels."""
    return len(schema.get("properties", {})) + sum(_size(inner) for _, inner in children("", schema))


def described_once(path: str, schema: Schema) -> Schema:
    """Below an object that repeats another's fields, "As in PATH." stands for every longer description.

    A CRD can hold no references, and client-side `kubectl apply` keeps all of it once more in an annotation.
    """
    places = repeats(path, schema)

    def once(here: str, schema: Schema) -> Schema:
        if here in places:
            return _changed(here, schema, lambda _, inner: _referring(inner, f"As in {places[here]}."))
        return _changed(here, schema, once)

    return once(path, schema)


def _referring(schema: Schema, words: str) -> Schema:
    shorter = {"description": min(schema["description"], words, key=len)} if "description" in schema else {}
    return _changed("", schema | shorter, lambda _, inner: _referring(inner, words))


def _changed(path: str, schema: Schema, change: Callable[[str, Schema], Schema]) -> Schema:
    """The schema with each one directly below it changed, given its path."""
    below = iter([change(place, inner) for place, inner in children(path, schema)])
    changed = dict(schema)
    if "properties" in schema:
        changed["properties"] = {name: next(below) for name in schema["properties"]}
    for keyword in ("items", "additionalProperties"):
        if keyword in schema:
            changed[keyword] = next(below)
    return changed

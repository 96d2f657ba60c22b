"""docs/api.md from the same schemas as the CRDs: every field with its type, default and meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator

from alignment_api import names, quantities, uris, wording
from alignment_api.crd import Schema, structural
from alignment_api.kinds import RESOURCES, Resource
from alignment_api.model import API_VERSION

_STAGES = "stages."
_INTRODUCTION = f"""# The API

Both kinds are `{API_VERSION}`, namespaced, and in the category `alignment`: `kubectl get alignment` lists them. A
name has at most {names.MAX_NAME_LENGTH} characters and no dots.

A URI is `pvc://CLAIM/PATH` or `file:///PATH`, at most {uris.MAX_LENGTH} characters, without `..`. A quantity is one of
Kubernetes: `500m`, `4`, `8Gi`. A field that is not listed here is refused, not ignored.
"""


def markdown() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *(_kind(resource) for resource in RESOURCES)])


def _kind(resource: Resource) -> str:
    spec, status = structural(resource.spec), structural(resource.status)
    rules = [f"- `{path}` {rule}" for path, rule in _rules("", spec)]
    lines = [
        f"## {resource.kind}",
        "",
        f"{resource.description} Short name `{resource.short_name}`.",
        "",
        "### spec",
        "",
        *_table(spec, status=False),
        "",
        "Over several fields:",
        "",
        *rules,
        "",
        "### status",
        "",
        "Written by the operator alone.",
        "",
        *_table(status, status=True),
        "",
    ]
    return "\n".join(lines)


def _table(schema: Schema, *, status: bool) -> Iterator[str]:
    yield "| field | type | meaning |" if status else "| field | type | default | meaning |"
    yield "|---|---|---|" if status else "|---|---|---|---|"
    for path, field, required in _fields("", schema):
        default = "" if status else f" {_default(field, required=required)} |"
        yield f"| `{path}` | {_type(field)} |{default} {field['description']} |".replace("\n", " ")


def _fields(path: str, schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    """Every field below a schema; those of stages.STAGE are those of defaults."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}{name}"
        yield here, field, name in schema.get("required", ())
        if path == _STAGES:
            continue
        yield from _fields(f"{here}.", field)
        yield from _fields(f"{here}[].", field.get("items", {}))
        inner = field.get("additionalProperties", {})
        yield from _fields(f"{here}.*.", inner)
        yield from _fields(f"{here}.*.*.", inner.get("additionalProperties", {}))


def _rules(path: str, schema: Schema) -> Iterator[tuple[str, str]]:
    """Those of stages.STAGE are those of defaults too."""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"spec{path}{rule.get('fieldPath', '')}", rule["message"]
    if path == f".{_STAGES}".rstrip("."):
        return
    for name, field in schema.get("properties", {}).items():
        yield from _rules(f"{path}.{name}", field)
    if "items" in schema:
        yield from _rules(f"{path}[]", schema["items"])


def _default(field: Schema, *, required: bool) -> str:
    if required:
        return "required"
    default = field.get("default")
    return "" if default in (None, {}) else f"`{json.dumps(default)}`".replace('"', "")


def _type(field: Schema) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if field.get("pattern") == uris.PATTERN:
        return "URI"
    if field.get("pattern") == quantities.PATTERN:
        return "quantity"
    bounds = wording.bounds(field)
    described = {
        "integer": f"whole number {bounds}",
        "number": f"number {bounds}",
        "boolean": "true or false",
        "string": "text",
        "array": f"list of at most {field.get('maxItems')}",
    }.get(field.get("type", ""))
    if described is None:
        described = f"map of at most {field['maxProperties']}" if "maxProperties" in field else "object"
    return described.strip()

"""docs/api.md from the same schemas as the CRDs: every field with its type, default and meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator

from alignment_api import names, quantities, uris, wording
from alignment_api.crd import structural
from alignment_api.kinds import RESOURCES, Resource
from alignment_api.model import API_VERSION
from alignment_api.schemas import Schema, children, repeats

_MANY = 4  # fewer fields are sooner read again than looked up
_INTRODUCTION = f"""# The API

Both kinds are `{API_VERSION}`, namespaced, and in the category `alignment`: `kubectl get alignment` lists them. A
name has at most {names.MAX_NAME_LENGTH} characters and no dots.

A URI is `pvc://CLAIM/PATH` or `file:///PATH`, at most {uris.MAX_LENGTH} characters, without `..`. In
`file://` a space is `%20` and `%` is `%25`; a `pvc://` path is taken as it is. Where the table says URI or
bucket, `s3://BUCKET/KEY`, `gs://BUCKET/KEY` and `az://CONTAINER/BLOB` are taken too ([how](data.md#files-in-a-bucket)).
A quantity is one of Kubernetes: `500m`, `4`, `8Gi`. A field that is not listed here is refused, not ignored.
"""


def markdown() -> str:
    """The whole page."""
    kinds = {resource.kind: _schema(resource) for resource in RESOURCES}
    explained = repeats("", {"properties": kinds}, _MANY)
    return "\n".join(
        [_INTRODUCTION, *(_kind(resource, kinds[resource.kind], explained) for resource in RESOURCES)]
    )


def _schema(resource: Resource) -> Schema:
    return {"properties": {"spec": structural(resource.spec), "status": structural(resource.status)}}


def _kind(resource: Resource, schema: Schema, explained: dict[str, str]) -> str:
    """`explained`: objects whose fields an earlier one has, the path of that by theirs."""
    spec, status = ((f"{resource.kind}.{part}", schema["properties"][part]) for part in ("spec", "status"))
    rules = [
        f"- `{path.removeprefix(f'{resource.kind}.')}` {rule}" for path, rule in _rules(*spec, explained)
    ]
    lines = [
        f"## {resource.kind}",
        "",
        f"{resource.description} Short name `{resource.short_name}`.",
        "",
        "### spec",
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
        *_table(*spec, explained, defaults=True),
        "",
        "Over several fields:",
        "",
        *rules,
        "",
        "### status",
        "",
        "Written by the operator alone.",
        "",
        "| field | type | meaning |",
        "|---|---|---|",
        *_table(*status, explained, defaults=False),
        "",
    ]
    return "\n".join(lines)


def _table(path: str, schema: Schema, explained: dict[str, str], *, defaults: bool) -> Iterator[str]:
    """A row for every field below a schema, and for map values and list items that an earlier object explains."""
    for place, inner in children(path, schema):
        kind, _, field = place.split(".", 2)
        first = explained.get(place)
        words = [] if field.endswith(("[]", "*")) else [inner["description"]]
        if first:
            words.append(f"Its fields are those of `{first.removeprefix(f'{kind}.')}`.")
        if words:
            required = field.rpartition(".")[2] in schema.get("required", ())
            default = f" {_default(inner, required=required)} |" if defaults else ""
            yield f"| `{field}` | {_type(inner)} |{default} {' '.join(words)} |".replace("\n", " ")
        if not first:
            yield from _table(place, inner, explained, defaults=defaults)


def _rules(path: str, schema: Schema, explained: dict[str, str]) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"{path}{rule.get('fieldPath', '')}", rule["message"]
    for place, inner in children(path, schema):
        if place not in explained:
            yield from _rules(place, inner, explained)


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
    if field.get("pattern") == uris.SOURCE_PATTERN:
        return "URI or bucket"
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

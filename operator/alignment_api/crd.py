"""CustomResourceDefinitions from the pydantic models: structural schemas, as the API server wants them.

The form: https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

import copy

from alignment_api import names, wording
from alignment_api.kinds import CATEGORY, Column, Resource
from alignment_api.model import API_VERSION, GROUP, VERSION, Model
from alignment_api.schemas import Schema, described_once, without

# What is taken over as it is; the rest is translated or means nothing to the API server.
_KEPT = (
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)
_TRANSLATED = {
    "$ref",
    "$defs",
    "additionalProperties",
    "anyOf",
    "const",
    "default",
    "description",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "items",
    "patternProperties",
    "properties",
    "propertyNames",
    "title",
    "x-kubernetes-validations",
}


def definition(resource: Resource) -> Schema:
    """The CustomResourceDefinition of one kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in resource.columns],
                    "schema": {"openAPIV3Schema": object_schema(resource)},
                }
            ],
        },
    }


def object_schema(resource: Resource) -> Schema:
    """The schema of a whole object: spec with defaults and rules, status without.

    Only the operator writes a status, from models that hold the rules; they would burst the API server's
    budget for CEL in the nested maps of measurements.
    """
    return {
        "type": "object",
        "description": resource.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{API_VERSION}."},
            "kind": {"type": "string", "description": f"{resource.kind}."},
            "metadata": {"type": "object"},
            "spec": described_once("spec", structural(resource.spec)),
            "status": described_once(
                "status", without(structural(resource.status), "default", "x-kubernetes-validations")
            ),
        },
        "x-kubernetes-validations": [
            {
                "rule": f"size(self.metadata.name) <= {names.MAX_NAME_LENGTH}",
                "message": f"metadata.name must have at most {names.MAX_NAME_LENGTH} characters: "
                "it becomes part of Job names",
            },
            {
                "rule": "!self.metadata.name.contains('.')",
                "message": "metadata.name must not contain '.': it becomes part of Job names",
            },
        ],
    }


def structural(model: type[Model]) -> Schema:
    """A model's schema without references, null and what only pydantic knows; defaults fill nested objects.

    Raises ValueError on a keyword that has no structural form.
    """
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(document, document.get("$defs", {}))


def _structural(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    raw = _resolved(raw, definitions)
    if unknown := raw.keys() - _TRANSLATED - set(_KEPT):
        raise ValueError(f"no structural form of {sorted(unknown)} in {raw}")
    schema: Schema = {key: copy.deepcopy(raw[key]) for key in ("description", *_KEPT) if key in raw}
    if "const" in raw:
        schema["enum"] = [raw["const"]]
    _bound(schema, raw)
    if keys := raw.get("propertyNames", {}).get("enum"):
        schema["maxProperties"] = len(keys)
    if raw.get("default") is not None:
        schema["default"] = raw["default"]
    # Defaults in list items and map values look like drift to GitOps tools.
    if "items" in raw:
        schema["items"] = without(_structural(raw["items"], definitions), "default")
    pattern, values = next(
        iter(raw.get("patternProperties", {}).items()), ("", raw.get("additionalProperties"))
    )
    if isinstance(values, dict):
        schema["additionalProperties"] = without(_structural(values, definitions), "default")
    if "properties" in raw:
        required = set(raw.get("required", ()))
        schema["properties"] = {
            name: _property(field, definitions, required=name in required)
            for name, field in raw["properties"].items()
        }
    validations = [
        *raw.get("x-kubernetes-validations", ()),
        *_key_rules(raw.get("propertyNames", {}), pattern),
    ]
    if validations:
        schema["x-kubernetes-validations"] = [_validation(each) for each in validations]
    return schema


def _property(raw: Schema, definitions: dict[str, Schema], *, required: bool) -> Schema:
    schema = _structural(raw, definitions)
    if not required and "default" not in raw and schema.get("type") == "object":
        schema["default"] = {}  # the API server then fills in the defaults below it
    return schema


def _resolved(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follow `$ref` and drop the null of an optional field; what stands beside them wins."""
    while "$ref" in raw or "anyOf" in raw:
        beside = {key: value for key, value in raw.items() if key not in {"$ref", "anyOf"}}
        if "$ref" in raw:
            inner = definitions[raw["$ref"].rsplit("/", 1)[1]]
        else:
            (inner,) = [choice for choice in raw["anyOf"] if choice != {"type": "null"}]
        raw = inner | beside
    return raw


def _bound(schema: Schema, raw: Schema) -> None:
    """OpenAPI 3.0 spells an exclusive bound as a bound and a flag."""
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if exclusive in raw:
            schema[bound] = raw[exclusive]
            schema[exclusive] = True


def _key_rules(keys: Schema, pattern: str) -> list[Schema]:
    """A structural schema says nothing of a map's keys; a rule can."""
    if "enum" in keys:
        rule = f"self.all(key, key in {keys['enum']})"
        return [{"rule": rule, "message": f"every key must be one of {', '.join(keys['enum'])}"}]
    shortest, longest = keys.get("minLength", 0), keys.get("maxLength")
    if longest is None:
        return []
    if pattern:
        rule = f"self.all(key, size(key) <= {longest} && key.matches('{pattern}'))"
        return [{"rule": rule, "message": f"every key {wording.PATTERNS[pattern]}"}]
    rule = f"self.all(key, size(key) >= {shortest} && size(key) <= {longest})"
    return [{"rule": rule, "message": f"every key must have from {shortest} to {longest} characters"}]


def _validation(rule: Schema) -> Schema:
    return {key: rule[key] for key in ("rule", "message", "fieldPath") if key in rule}


def _column(column: Column) -> Schema:
    wide = {"priority": 1} if column.wide else {}
    return {"name": column.name, "type": column.type, "jsonPath": column.json_path} | wide

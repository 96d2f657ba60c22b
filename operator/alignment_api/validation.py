"""What is wrong with a manifest: the field's path, the value, what to do."""

from __future__ import annotations

import functools
import json
import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from alignment_api import crd, names, wording
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.dataset import PreferenceDatasetSpec
from alignment_api.kinds import CYCLE, DATASET, RESOURCES, Resource
from alignment_api.model import API_VERSION, GROUP, Model
from alignment_api.schemas import Schema

Path = tuple[str | int, ...]
Spec = TypeVar("Spec", bound=Model)

_LONGEST_VALUE = 60
_ROOT_FIELDS = ("apiVersion", "kind", "metadata", "spec", "status")


@dataclass(frozen=True)
class Problem:
    """One error in one field."""

    path: str  # spec.sampling.temperature
    value: str  # as written, shortened; empty if it is missing
    message: str  # what is wrong and what to do

    def __str__(self) -> str:
        return f"{self.path}: {self.value}: {self.message}" if self.value else f"{self.path}: {self.message}"


def parse_cycle(manifest: object) -> tuple[AlignmentCycleSpec | None, tuple[Problem, ...]]:
    """The spec of an AlignmentCycle with its defaults, or None and every problem of the manifest."""
    return _parsed(manifest, CYCLE, AlignmentCycleSpec)


def parse_dataset(manifest: object) -> tuple[PreferenceDatasetSpec | None, tuple[Problem, ...]]:
    """The spec of a PreferenceDataset with its defaults, or None and every problem of the manifest."""
    return _parsed(manifest, DATASET, PreferenceDatasetSpec)


def check_manifest(manifest: object) -> tuple[Problem, ...]:
    """Every problem of one document; of a kind that is not ours only what makes it no manifest at all."""
    if not isinstance(manifest, Mapping):
        return (
            Problem(
                "(document)", _shown(manifest), "must be a mapping with apiVersion, kind, metadata, spec"
            ),
        )
    api_version, kind = manifest.get("apiVersion"), manifest.get("kind")
    missing = tuple(
        Problem(
            field,
            _shown(value),
            f"is required, as text: {API_VERSION}, for example"
            if field == "apiVersion"
            else "is required, as text",
        )
        for field, value in (("apiVersion", api_version), ("kind", kind))
        if not isinstance(value, str) or not value
    )
    if missing:
        return missing
    resource = next((resource for resource in RESOURCES if resource.kind == kind), None)
    if resource is not None:
        return _parsed(manifest, resource, resource.spec)[1]
    if str(api_version).split("/")[0] == GROUP:
        kinds = [resource.kind for resource in RESOURCES]
        return (
            Problem(
                "kind",
                _shown(kind),
                wording.suggestion(str(kind), kinds, f"is not a kind of {GROUP}", "kinds"),
            ),
        )
    return ()


def _parsed(
    manifest: object, resource: Resource, model: type[Spec]
) -> tuple[Spec | None, tuple[Problem, ...]]:
    if not isinstance(manifest, Mapping):
        return None, check_manifest(manifest)
    problems = [*_envelope(manifest, resource), *_metadata(manifest.get("metadata"))]
    spec = manifest.get("spec")
    if spec is None:
        return None, (*problems, Problem("spec", "", f"is required: {crd.structural(model)['description']}"))
    try:
        spec = _without_null_entries(_whole_numbers(spec), _schema(model))
    except RecursionError:
        return None, (*problems, Problem("spec", "", "contains itself, or is nested too deeply"))
    try:
        parsed = model.model_validate(spec, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return None, (*problems, *_problems(details, spec, _schema(model)))
    return (None if problems else parsed), tuple(problems)


def _envelope(manifest: Mapping[object, object], resource: Resource) -> list[Problem]:
    problems = [
        Problem(field, _shown(manifest.get(field)), f"must be {wanted}")
        for field, wanted in (("apiVersion", API_VERSION), ("kind", resource.kind))
        if manifest.get(field) != wanted
    ]
    unknown = [field for field in manifest if field not in _ROOT_FIELDS]
    return problems + [
        Problem(
            str(field),
            _shown(manifest[field]),
            wording.suggestion(str(field), _ROOT_FIELDS, "is not a field here"),
        )
        for field in unknown
    ]


def _metadata(metadata: object) -> list[Problem]:
    if not isinstance(metadata, Mapping):
        return [Problem("metadata", _shown(metadata), "must be a mapping with a name")]
    problems = _name(metadata) + _namespace(metadata)
    for field in ("annotations", "labels"):
        values = metadata.get(field)
        if values is None:
            continue
        if not isinstance(values, Mapping):
            problems.append(Problem(f"metadata.{field}", _shown(values), "must be a mapping of text to text"))
            continue
        problems += [
            Problem(_spelt(("metadata", field, str(key))), _shown(value), "must be text; put it in quotes")
            for key, value in values.items()
            if not isinstance(value, str)
        ]
    return problems


def _name(metadata: Mapping[object, object]) -> list[Problem]:
    name = metadata.get("name")
    if name is None and isinstance(metadata.get("generateName"), str):
        return []
    if not isinstance(name, str) or not name:
        return [Problem("metadata.name", _shown(name), "is required, as text")]
    if len(name) > names.MAX_NAME_LENGTH:
        most = names.MAX_NAME_LENGTH
        message = f"has {len(name)} characters; at most {most} are allowed, for it becomes part of Job names"
        return [Problem("metadata.name", _shown(name), message)]
    if not re.fullmatch(names.NAME_PATTERN, name):
        return [Problem("metadata.name", _shown(name), wording.PATTERNS[names.NAME_PATTERN])]
    return []


def _namespace(metadata: Mapping[object, object]) -> list[Problem]:
    namespace = metadata.get("namespace")
    if namespace is None or namespace == "":
        return []
    if isinstance(namespace, str) and len(namespace) <= 63 and re.fullmatch(names.NAME_PATTERN, namespace):
        return []
    message = f"{wording.PATTERNS[names.NAME_PATTERN]}, at most 63 characters"
    return [Problem("metadata.namespace", _shown(namespace), message)]


@functools.cache
def _schema(model: type[Model]) -> Schema:
    return crd.structural(model)


def _problems(details: Iterable[ErrorDetails], spec: object, schema: Schema) -> Iterator[Problem]:
    for detail in details:
        yield _problem(detail, spec, schema)
        for further in detail.get("ctx", {}).get("more", ()):
            yield _ruled(detail["loc"], further, spec)


def _ruled(place: Path, told: Mapping[str, str], spec: object) -> Problem:
    path = (*place, *_steps(told["path"]))
    return Problem(_spelt(("spec", *path)), _shown(_at(spec, path)), told["message"])


def _problem(error: ErrorDetails, spec: object, schema: Schema) -> Problem:
    path: Path = error["loc"]
    kind, written = error["type"], error["input"]
    context: Mapping[str, Any] = error.get("ctx", {})
    if path and path[-1] == "[key]":
        path = path[:-1]
        if kind == "literal_error":
            known = re.findall("'([^']*)'", context["expected"])
            return _unknown_field(path, _at(spec, path), known, schema)
        return _key_problem(path, error)
    if kind == "rule":
        return _ruled(path, context, spec)
    if kind == "missing":
        description = _node(schema, path).get("description", "")
        return Problem(_spelt(("spec", *path)), "", f"is required: {description}")
    if kind == "invalid_key":
        return Problem(
            _spelt(("spec", *path)), _shown(written), "is a key that must be text; put it in quotes"
        )
    if kind == "extra_forbidden":
        return _unknown_field(path, written, sorted(_node(schema, path[:-1]).get("properties", ())), schema)
    message = wording.message(kind, written, _node(schema, path), str(path[-1]) if path else "")
    return Problem(_spelt(("spec", *path)), _shown(written), message)


def _unknown_field(path: Path, written: object, known: list[str], schema: Schema) -> Problem:
    elsewhere = list(_places("spec", schema, str(path[-1])))
    message = wording.suggestion(str(path[-1]), known, "is not a field here", elsewhere=elsewhere)
    return Problem(_spelt(("spec", *path)), _shown(written), message)


def _key_problem(path: Path, error: ErrorDetails) -> Problem:
    key = path[-1]
    message = wording.message(error["type"], key, {"type": "string"} | error.get("ctx", {}))
    return Problem(_spelt(("spec", *path)), _shown(key), f"is a key that {message}")


def _node(schema: Schema, path: Path) -> Schema:
    for step in path:
        if "properties" in schema:
            schema = schema["properties"][step]
        else:
            schema = schema.get("items") or schema["additionalProperties"]
    return schema


def _places(path: str, schema: Schema, name: str) -> Iterator[str]:
    """Where a field of this name is at home."""
    for field, inner in schema.get("properties", {}).items():
        if field == name:
            yield f"{path}.{field}"
        yield from _places(f"{path}.{field}", inner, name)
    if "items" in schema:
        yield from _places(f"{path}[]", schema["items"], name)


def _at(value: object, path: Path) -> object:
    for step in path:
        if isinstance(value, Mapping):
            value = value.get(step)
        else:
            value = value[step] if isinstance(value, list) and isinstance(step, int) else None
    return value


def _steps(field_path: str) -> Path:
    """`[1].name` → (1, "name")."""
    return tuple(
        int(index) if index else name for index, name in re.findall(r"\[(\d+)\]|([^.\[\]]+)", field_path)
    )


def _spelt(path: Path) -> str:
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", step):
            text += f".{step}" if text else step
        else:
            text += f"[{_printable(json.dumps(step, ensure_ascii=False))}]"
    return text


def _shown(value: object) -> str:
    if value is None:
        return ""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):  # keys that are no text; what contains itself
        text = reprlib.repr(value)
    text = _printable(text)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _printable(text: str) -> str:
    """A YAML escape can make half a surrogate pair, which no terminal or file takes."""
    return text.encode(errors="backslashreplace").decode()


def _without_null_entries(value: Any, schema: Schema) -> Any:
    """Nothing behind a key of a map is as if the key were not there; for fields, the models themselves say so."""
    if isinstance(value, list):
        return [_without_null_entries(item, schema.get("items", {})) for item in value]
    if not isinstance(value, Mapping):
        return value
    fields, values = schema.get("properties", {}), schema.get("additionalProperties")
    return {
        key: _without_null_entries(inner, values or fields.get(key, {}))
        for key, inner in value.items()
        if inner is not None or values is None
    }


def _whole_numbers(value: object) -> object:
    """To the API server 4.0 is a whole number; so it is here."""
    if isinstance(value, Mapping):
        return {key: _whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

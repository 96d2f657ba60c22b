"""The files in crds/: what they are generated from, and the form that API servers and GitOps tools want."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import Field

from alignment_api import crd
from alignment_api.kinds import CYCLE, DATASET, RESOURCES, Resource
from alignment_api.model import Model
from alignment_api.schemas import Schema, children, without
from alignment_operator.cli import crds
from tests.api.statuses import CYCLE_STATUS, DATASET_STATUS

REPOSITORY = Path(__file__).parents[2]


def _nodes(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for place, inner in children(path, schema):
        yield from _nodes(place, inner)


NODES = {resource.kind: list(_nodes("", crd.object_schema(resource))) for resource in RESOURCES}


def test_the_files_are_what_the_models_say() -> None:
    assert crds.stale_files(REPOSITORY) == []


def test_a_stale_or_missing_file_fails_the_check_and_writing_mends_it(tmp_path: Path) -> None:
    run = CliRunner()
    missing = run.invoke(crds.main, ["--check", "--root", str(tmp_path)])
    assert missing.exit_code == 1
    assert "alignment.dev_alignmentcycles.yaml" in missing.output
    assert "api.md" in missing.output
    assert run.invoke(crds.main, ["--write", "--root", str(tmp_path)]).exit_code == 0
    assert run.invoke(crds.main, ["--check", "--root", str(tmp_path)]).exit_code == 0
    file = tmp_path / "crds" / "alignment.dev_preferencedatasets.yaml"
    file.write_text(file.read_text().replace("maxLength: 512", "maxLength: 511"))
    stale = run.invoke(crds.main, ["--check", "--root", str(tmp_path)])
    assert stale.exit_code == 1
    assert "preferencedatasets" in stale.output
    assert "alignmentcycles" not in stale.output


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_yaml_gives_back_the_definition(resource: Resource) -> None:
    assert yaml.safe_load(crds.crd_text(resource)) == crd.definition(resource)


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_client_side_apply_has_room_for_a_definition_with_all_fields_to_come(resource: Resource) -> None:
    """It keeps the object's JSON in an annotation, and all annotations of an object end at 262,144 bytes."""
    stored = json.dumps(crd.definition(resource), separators=(",", ":"))
    assert len(stored.encode()) < 150_000


@pytest.mark.parametrize("resource", RESOURCES, ids=lambda resource: resource.kind)
def test_a_definition_is_what_its_models_say_but_for_words_that_stand_elsewhere(resource: Resource) -> None:
    spec = crd.object_schema(resource)["properties"]["spec"]
    assert without(spec, "description") == without(crd.structural(resource.spec), "description")
    words = {path: schema.get("description", "") for path, schema in _nodes("spec", spec)}
    for path, schema in _nodes("spec", crd.structural(resource.spec)):
        in_full = schema.get("description", "")
        assert words[path] == in_full or in_full in _told(words, _place(words[path]))


def _told(words: dict[str, str], place: str) -> set[str]:
    """All that is said there and below, and where that refers to."""
    told, open_, known = set(), [place], {""}
    while open_:
        here = open_.pop()
        known.add(here)
        said = {text for path, text in words.items() if path.startswith(here)}
        told |= said
        open_ += {_place(text) for text in said} - known
    return told


def _place(words: str) -> str:
    """What they refer to, if they do."""
    return words.removeprefix("As in ").removesuffix(".") if words.startswith("As in ") else ""


@pytest.mark.parametrize("kind", NODES)
def test_every_field_is_described(kind: str) -> None:
    fields = [
        (place, field)
        for path, schema in NODES[kind]
        for place, field in children(path, schema)
        if not place.endswith(("[]", "*"))
    ]
    assert [path for path, field in fields if not field.get("description") and path != "metadata"] == []


@pytest.mark.parametrize("kind", NODES)
def test_every_text_list_and_map_ends_somewhere(kind: str) -> None:
    def unbounded(schema: Schema) -> bool:
        if "enum" in schema:
            return False
        if schema.get("type") == "string" or schema.get("x-kubernetes-int-or-string"):
            fixed = schema.get("pattern", "").endswith("{64}$")
            return "maxLength" not in schema and not fixed
        if schema.get("type") == "array":
            return "maxItems" not in schema
        return "additionalProperties" in schema and "maxProperties" not in schema

    inside = ("spec", "status")
    assert [path for path, schema in NODES[kind] if path.startswith(inside) and unbounded(schema)] == []


@pytest.mark.parametrize("kind", NODES)
def test_neither_list_items_nor_the_status_have_defaults(kind: str) -> None:
    defaulted = [path for path, schema in NODES[kind] if "default" in schema]
    assert defaulted
    assert [path for path in defaulted if "[]" in path or path.startswith("status")] == []


@pytest.mark.parametrize("kind", NODES)
def test_the_schema_is_structural(kind: str) -> None:
    foreign = {"$ref", "$defs", "anyOf", "allOf", "oneOf", "title", "const", "propertyNames", "nullable"}
    for path, schema in NODES[kind]:
        assert not foreign & schema.keys(), path
        assert schema.get("additionalProperties") is not False, path
        untyped = {"x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"}
        assert "type" in schema or untyped & schema.keys(), path


@pytest.mark.parametrize(("resource", "status"), [(CYCLE, CYCLE_STATUS), (DATASET, DATASET_STATUS)])
def test_the_example_of_a_status_sets_every_field(resource: Resource, status: Model) -> None:
    assert _unset("status", crd.structural(resource.status), [status.to_wire()]) == []


def _unset(path: str, schema: Schema, values: list[Any]) -> list[str]:
    """Fields that no value at this place sets."""
    missing = [] if values else [path]
    for name, field in schema.get("properties", {}).items():
        missing += _unset(f"{path}.{name}", field, [value[name] for value in values if name in value])
    if "items" in schema:
        missing += _unset(f"{path}[]", schema["items"], [item for value in values for item in value])
    if "additionalProperties" in schema:
        entries = [entry for value in values for entry in value.values()]
        missing += _unset(f"{path}.*", schema["additionalProperties"], entries)
    return missing


def test_a_keyword_without_structural_form_is_an_error() -> None:
    class Odd(Model):
        field: int = Field(description="A field.", multiple_of=2)

    with pytest.raises(ValueError, match="multipleOf"):
        crd.structural(Odd)

"""Every constraint accepts what it should and refuses what it should, as pydantic judges it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import UnionType
from typing import Any

import pytest

from alignment_api import crd
from alignment_api.kinds import RESOURCES
from alignment_api.schemas import Schema, without
from alignment_api.validation import Problem, check_manifest
from tests.api.constraints import ROWS, RULES, Row, SpanningRow, accepted, refused, with_values
from tests.api.manifests import BY_KIND, LEAST_CYCLE, LEAST_DATASET, MISSING, Manifest, steps


@pytest.mark.parametrize("manifest", [*BY_KIND.values(), LEAST_CYCLE, LEAST_DATASET])
def test_the_examples_that_the_tables_change_are_accepted(manifest: Manifest) -> None:
    assert check_manifest(manifest) == ()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_field_accepts_and_refuses(row: Row) -> None:
    for example in accepted([row]):
        assert check_manifest(example.manifest) == ()
    for example in refused([row]):
        problems = check_manifest(example.manifest)
        assert [problem for problem in problems if _is_at(problem, example.problem)] == list(problems) != []


@pytest.mark.parametrize("row", RULES, ids=str)
def test_a_rule_over_several_fields_accepts_and_refuses(row: SpanningRow) -> None:
    for values in row.accepted:
        assert check_manifest(with_values(row.kind, values)) == ()
    for values in row.refused:
        problems = check_manifest(with_values(row.kind, values))
        assert (row.path, row.message) in [(problem.path, problem.message) for problem in problems]


def test_no_constraint_is_without_examples() -> None:
    uncovered = [
        f"{resource.kind} {path}: {constraint}"
        for resource in RESOURCES
        for path, schema in _nodes("spec", crd.structural(resource.spec))
        if not path.startswith(_SAME_AS_DEFAULTS[resource.kind])
        for constraint in _uncovered(resource.kind, path, schema)
    ]
    assert uncovered == []


def test_all_stages_of_both_kinds_take_the_same_settings() -> None:
    cycle, dataset = (crd.structural(resource.spec)["properties"] for resource in RESOURCES)
    words = ("default", "description")
    for pod in (cycle["stages"]["additionalProperties"], dataset["defaults"]):
        assert without(pod, *words) == without(cycle["defaults"], *words)


_SAME_AS_DEFAULTS = {"AlignmentCycle": "spec.stages.*.", "PreferenceDataset": "spec.defaults"}


def _is_at(problem: Problem, path: str) -> bool:
    return problem.path == path or problem.path.startswith((f"{path}[", f"{path}."))


def _nodes(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from _nodes(f"{path}.{name}", field)
    if "items" in schema:
        yield from _nodes(f"{path}[0]", schema["items"])
    if "additionalProperties" in schema:
        yield from _nodes(f"{path}.*", schema["additionalProperties"])


def _uncovered(kind: str, path: str, schema: Schema) -> Iterator[str]:
    rows = [row for row in ROWS if row.kind == kind and re.fullmatch(_as_regex(path), row.path)]
    accepted = [value for row in rows for value in row.accepted]
    refused = [value for row in rows for value in row.refused if not isinstance(value, tuple)]
    elsewhere = [value for row in rows for value in row.refused if isinstance(value, tuple)]
    if "type" in schema and not any(_of_another_type(value, schema["type"]) for value in refused):
        yield "type"
    yield from _uncovered_bounds(schema, accepted, refused)
    yield from _uncovered_sizes(schema, accepted, refused)
    if "enum" in schema and (
        set(schema["enum"]) - set(accepted) or not set(map(str, refused)) - set(schema["enum"])
    ):
        yield "enum"
    if "pattern" in schema:
        texts = [value for value in refused if isinstance(value, str) and len(value) <= schema["maxLength"]]
        if not accepted or not texts or any(re.search(schema["pattern"], text) for text in texts):
            yield "pattern"
    for name in schema.get("required", ()):
        where = _as_regex(f"{path}.{name}")
        if not any(value is MISSING and re.fullmatch(where, at) for at, value in elsewhere):
            yield f"required {name}"
    if schema.get("x-kubernetes-list-type") == "map" and not any("[1]" in at for at, _ in elsewhere):
        yield "uniqueness"
    for rule in schema.get("x-kubernetes-validations", ()):
        yield from _uncovered_rule(kind, rule, refused)


def _uncovered_bounds(schema: Schema, accepted: list[Any], refused: list[Any]) -> Iterator[str]:
    inside = [value for value in accepted if isinstance(value, int | float)]
    outside = [value for value in refused if isinstance(value, int | float) and not isinstance(value, bool)]
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None:
        exclusive = schema.get("exclusiveMinimum", False)
        at_edge = low in (outside if exclusive else inside)
        if not at_edge or not any(value <= low if exclusive else value < low for value in outside):
            yield "minimum"
    if high is not None:
        exclusive = schema.get("exclusiveMaximum", False)
        at_edge = high in (outside if exclusive else inside)
        if not at_edge or not any(value >= high if exclusive else value > high for value in outside):
            yield "maximum"


def _uncovered_sizes(schema: Schema, accepted: list[Any], refused: list[Any]) -> Iterator[str]:
    for suffix, type_ in (("Length", str), ("Items", list), ("Properties", dict)):
        inside = {len(value) for value in accepted if isinstance(value, type_)}
        outside = {len(value) for value in refused if isinstance(value, type_)}
        for keyword, step in ((f"min{suffix}", -1), (f"max{suffix}", 1)):
            if keyword in schema and not (schema[keyword] in inside and schema[keyword] + step in outside):
                yield keyword


def _uncovered_rule(kind: str, rule: dict[str, str], refused: list[object]) -> Iterator[str]:
    if rule["message"].startswith("every key"):
        if {} not in refused and not any(isinstance(value, dict) and "" in value for value in refused):
            yield rule["message"]
    elif "oldSelf" in rule["rule"]:
        return  # only a server can judge a change: test_api_server.py
    elif not any(row.kind == kind and row.message == rule["message"] for row in RULES):
        yield rule["message"]


def _as_regex(path: str) -> str:
    parts = [re.escape(str(step)) if step != "*" else "[^.]+" for step in steps(path)]
    return r"\.?".join(r"\[\d+\]" if part.isdigit() else part for part in parts)


def _of_another_type(value: object, type_: str) -> bool:
    own: dict[str, type | UnionType] = {
        "string": str,
        "integer": int,
        "number": int | float,
        "array": list,
        "object": dict,
        "boolean": bool,
    }
    return not isinstance(value, own[type_]) or (isinstance(value, bool) and type_ != "boolean")

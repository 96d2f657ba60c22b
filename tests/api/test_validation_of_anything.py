"""Whatever a YAML file may hold, validation answers with problems and never with an exception."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_api.validation import check_manifest
from tests.api.manifests import BY_KIND, CYCLE, Manifest, with_value

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary(max_size=4)
    | st.dates()
    | st.datetimes(timezones=st.just(datetime.UTC))
    | st.sampled_from(
        ["", "5e-7", "30%", "1e400", "0x10", "1_000", "\x00", "\ud800", "s3://", "pvc://", "file://"]
    )
)
KEYS = (
    st.text(max_size=5)
    | st.integers()
    | st.booleans()
    | st.none()
    | st.dates()
    | st.sampled_from(["uri", "name"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def _paths(path: str, value: Any) -> Iterator[str]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            if "." not in key and "/" not in key:
                yield from _paths(f"{path}.{key}" if path else key, inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(f"{path}[{index}]", inner)


CHANGES = st.sampled_from(
    [(kind, path) for kind, manifest in BY_KIND.items() for path in _paths("", manifest)]
)


@settings(deadline=None, derandomize=True, max_examples=200)
@given(CHANGES, VALUES)
def test_any_value_anywhere_is_accepted_or_told_what_is_wrong(change: tuple[str, str], value: object) -> None:
    kind, path = change
    for problem in check_manifest(with_value(BY_KIND[kind], path, value)):
        assert problem.path
        assert problem.message
        assert "pydantic" not in problem.message
        assert len(problem.value) <= 60
        assert "\n" not in str(problem)
        str(problem).encode()


@settings(deadline=None, derandomize=True)
@given(VALUES)
def test_any_document_is_accepted_or_told_what_is_wrong(document: object) -> None:
    check_manifest(document)


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), math.inf, -math.inf], ids=["large", "small", "inf", "-inf"]
)
def test_numbers_beyond_all_bounds_are_refused(value: float) -> None:
    for path in ("spec.training.beta", "spec.training.seed", "spec.defaults.retries"):
        (problem,) = check_manifest(with_value(CYCLE, path, value))
        assert problem.path == path


def test_a_manifest_that_contains_itself_is_refused() -> None:
    manifest: Manifest = with_value(CYCLE, "spec.training.lora", {})
    manifest["spec"]["training"]["lora"]["rank"] = manifest["spec"]
    (problem,) = check_manifest(manifest)
    assert str(problem) == "spec: contains itself, or is nested too deeply"

"""The same examples, and what only a server does with them, on a real API server."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.dataset import PreferenceDatasetStatus
from alignment_api.kinds import RESOURCES
from alignment_api.model import API_VERSION, Model
from alignment_api.validation import parse_cycle, parse_dataset
from tests.api.constraints import ROWS, RULES, Example, SpanningRow, accepted, batches, refused, with_values
from tests.api.manifests import BY_KIND, LEAST_CYCLE, LEAST_DATASET, Manifest, with_value
from tests.api.statuses import CYCLE_STATUS, DATASET_STATUS
from tests.cluster.api import ApiError
from tests.cluster.client import Client, Namespace, temporary_namespace
from tests.cluster.crds import serve
from tests.cluster.waiting import wait_until

pytest_plugins = ["tests.cluster.fixtures"]

PLURALS = {resource.kind: resource.plural for resource in RESOURCES}


@pytest.fixture(scope="module")
def shared(cluster: Client) -> Iterator[Namespace]:
    """One namespace for all tests here: most of them create nothing."""
    serve(cluster)
    with temporary_namespace(cluster, "api") as namespace:
        yield namespace


def _try(namespace: Namespace, manifest: Manifest, *, dry: bool = True) -> Manifest:
    path = namespace.path(API_VERSION, PLURALS[manifest["kind"]])
    query = "?fieldValidation=Strict" + ("&dryRun=All" if dry else "")
    return namespace.client.call("POST", path + query, manifest)


def _refusal(namespace: Namespace, manifest: Manifest) -> str:
    with pytest.raises(ApiError) as caught:
        _try(namespace, manifest)
    assert caught.value.status in {400, 422}
    return str(caught.value)


def _title(batch: list[Example]) -> str:
    return f"{len(batch)} of {batch[0].kind}, {batch[0].problem} first"


@pytest.mark.parametrize("batch", batches(accepted(ROWS)), ids=_title)
def test_values_are_accepted(shared: Namespace, batch: list[Example]) -> None:
    values = {path: value for example in batch for path, value in example.values.items()}
    _try(shared, with_values(batch[0].kind, values))


@pytest.mark.parametrize("batch", batches(refused(ROWS)), ids=_title)
def test_each_of_many_wrong_values_is_refused(shared: Namespace, batch: list[Example]) -> None:
    values = {path: value for example in batch for path, value in example.values.items()}
    refusal = _refusal(shared, with_values(batch[0].kind, values))
    for example in batch:
        # Of two items with one key the server names the second, not its key.
        field = re.escape(
            example.problem.removesuffix(".name") if "[1]" in example.problem else example.problem
        )
        assert re.search(rf"[ \[\"]{field}[:\"\[.]", refusal), (example, refusal)


@pytest.mark.parametrize("row", RULES, ids=str)
def test_a_rule_over_several_fields_accepts_and_refuses(shared: Namespace, row: SpanningRow) -> None:
    for values in row.accepted:
        _try(shared, with_values(row.kind, values))
    for values in row.refused:
        refusal = _refusal(shared, with_values(row.kind, values))
        assert f"{row.path}: Invalid value: {row.message}" in refusal


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_name_must_fit_into_job_names(shared: Namespace, kind: str) -> None:
    _try(shared, with_value(BY_KIND[kind], "metadata.name", "a" * 40))
    for name in ("a" * 41, "a.b", "A", "a_b"):
        assert name in _refusal(shared, with_value(BY_KIND[kind], "metadata.name", name))


def test_what_is_everywhere_is_left_alone(shared: Namespace) -> None:
    for kind, manifest in BY_KIND.items():
        assert _try(shared, manifest)["spec"] == manifest["spec"], kind


def test_the_server_fills_in_the_defaults_of_the_models(shared: Namespace) -> None:
    cycle, problems = parse_cycle(LEAST_CYCLE)
    assert cycle is not None, problems
    assert _try(shared, LEAST_CYCLE)["spec"] == cycle.to_wire()
    dataset, problems = parse_dataset(LEAST_DATASET)
    assert dataset is not None, problems
    assert _try(shared, LEAST_DATASET)["spec"] == dataset.to_wire()


@pytest.mark.parametrize("manifest", [BY_KIND["AlignmentCycle"], LEAST_CYCLE])
def test_what_the_server_keeps_is_what_the_operator_reads(shared: Namespace, manifest: Manifest) -> None:
    assert parse_cycle(_try(shared, manifest)) == parse_cycle(manifest)


@pytest.mark.parametrize("manifest", [BY_KIND["PreferenceDataset"], LEAST_DATASET])
def test_that_holds_for_datasets_too(shared: Namespace, manifest: Manifest) -> None:
    assert parse_dataset(_try(shared, manifest)) == parse_dataset(manifest)


def test_the_defaults_below_optional_objects_are_the_same_too(shared: Namespace) -> None:
    manifest = LEAST_CYCLE
    for path, value in {
        "spec.training.lora": {},
        "spec.evaluation.comparison": {},
        "spec.judge": {"rewardModel": {"uri": "pvc://a/b"}},
        "spec.gates": {"collapse": {}, "winRate": {}, "rewardHacking": {}},
        "spec.stages.train": {"retries": 0},
    }.items():
        manifest = with_value(manifest, path, value)
    cycle, problems = parse_cycle(manifest)
    assert cycle is not None, problems
    assert _try(shared, manifest)["spec"] == cycle.to_wire()


def test_nothing_behind_a_field_is_as_if_it_were_not_there(shared: Namespace) -> None:
    manifest = LEAST_CYCLE
    for path in (
        "spec.training.lora",
        "spec.sampling.topP",
        "spec.stages.train",
        "spec.defaults.podLabels.team",
    ):
        manifest = with_value(manifest, path, None)
    cycle, problems = parse_cycle(manifest)
    assert cycle is not None, problems
    assert _try(shared, manifest)["spec"] == cycle.to_wire()


def test_the_model_to_align_cannot_be_changed_and_the_rest_can(shared: Namespace) -> None:
    manifest = with_value(LEAST_CYCLE, "metadata.name", "immutable")
    _try(shared, manifest, dry=False)
    path = shared.path(API_VERSION, "alignmentcycles", "immutable")
    with pytest.raises(ApiError, match="is immutable; make another cycle for another model"):
        shared.client.patch(path, {"spec": {"policy": {"model": "pvc://models/other"}}})
    changed = shared.client.patch(
        path, {"spec": {"policy": {"reference": "Initial"}, "history": {"iterations": 3}}}
    )
    assert changed["spec"]["policy"] == {
        "model": "pvc://models/m0",
        "reference": "Initial",
        "start": "Previous",
    }


@pytest.mark.parametrize(
    ("manifest", "model", "status"),
    [
        (LEAST_CYCLE, AlignmentCycleStatus, CYCLE_STATUS),
        (LEAST_DATASET, PreferenceDatasetStatus, DATASET_STATUS),
    ],
    ids=["AlignmentCycle", "PreferenceDataset"],
)
def test_a_status_comes_back_as_it_was_written(
    shared: Namespace, manifest: Manifest, model: type[Model], status: Model
) -> None:
    made = _try(shared, with_value(manifest, "metadata.name", "status"), dry=False)
    path = shared.path(API_VERSION, PLURALS[manifest["kind"]], "status")
    strictly = f"{path}/status?fieldValidation=Strict"
    shared.client.call("PUT", strictly, made | {"status": status.to_wire()})
    stored = shared.client.call("GET", path)
    assert stored["spec"] == made["spec"]
    assert stored["status"] == status.to_wire()
    assert model.from_wire(stored["status"]) == status


def test_a_status_cannot_be_written_with_the_spec_nor_the_spec_with_the_status(shared: Namespace) -> None:
    made = _try(
        shared, with_value(LEAST_CYCLE, "metadata.name", "apart") | {"status": {"promoted": None}}, dry=False
    )
    assert "status" not in made
    path = shared.path(API_VERSION, "alignmentcycles", "apart")
    body = {"spec": {"history": {"iterations": 2}}, "status": {"observedGeneration": 1}}
    patched = shared.client.patch(f"{path}/status", body)
    assert patched["spec"] == made["spec"]
    assert patched["status"] == {"observedGeneration": 1}


def test_kubectl_shows_where_a_cycle_stands(shared: Namespace) -> None:
    made = _try(shared, with_value(LEAST_CYCLE, "metadata.name", "shown"), dry=False)
    path = shared.path(API_VERSION, "alignmentcycles", "shown")
    shared.client.call("PUT", f"{path}/status", made | {"status": CYCLE_STATUS.to_wire()})
    header, row = shared.kubectl("get", "acyc", "shown").splitlines()
    assert " ".join(header.split()) == "NAME READY STATUS ITERATION STAGE OUTCOME PROMOTED NEXT RUN AGE"
    shown = ["shown", "True", "Idle", "7", "promote", "Promoted", "7", "2026-11-30T03:00:00Z"]
    assert row.split()[:8] == shown
    header, row = shared.kubectl("get", "acyc", "shown", "-o", "wide").splitlines()
    assert header.split()[-3:-1] == ["METHOD", "REASON"]
    assert row.split()[-3:-1] == ["DPO", "AllGatesPassed"]


def test_kubectl_shows_what_a_dataset_holds(shared: Namespace) -> None:
    made = _try(shared, with_value(LEAST_DATASET, "metadata.name", "shown"), dry=False)
    path = shared.path(API_VERSION, "preferencedatasets", "shown")
    shared.client.call("PUT", f"{path}/status", made | {"status": DATASET_STATUS.to_wire()})
    header, row = shared.kubectl("get", "prefds", "shown").splitlines()
    assert header.split() == ["NAME", "READY", "STATUS", "PAIRS", "UNPAIRED", "REVISION", "AGE"]
    assert row.split()[:6] == ["shown", "True", "Idle", "9362", "100", "12"]


def test_both_kinds_are_in_the_category_alignment(shared: Namespace) -> None:
    listed = shared.client.kubectl("api-resources", "--categories=alignment", "-o", "name").split()
    assert listed == ["alignmentcycles.alignment.dev", "preferencedatasets.alignment.dev"]


def test_kubectl_explains_fields(shared: Namespace) -> None:
    # The server publishes schemas a moment after it serves them; `get` makes kubectl ask anew which kinds there are.
    shared.kubectl("get", "acyc")
    wait_until(
        lambda: shared.client.try_kubectl("explain", "acyc").returncode == 0, "its schema is published"
    )
    training = shared.kubectl("explain", "acyc.spec.training")
    assert "How the candidate is trained." in training
    assert "gradientAccumulationSteps\t<integer>" in training
    assert "Batches summed into one step." in training
    assert "sample, judge, train, evaluate, compare, promote" in " ".join(
        shared.kubectl("explain", "acyc.spec.stages").split()
    )
    assert "As in spec.defaults." in shared.kubectl("explain", "acyc.spec.stages.retries")
    assert "nobody's fault" in shared.kubectl("explain", "acyc.spec.defaults.retries")

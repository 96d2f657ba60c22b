"""The state folder answers as the API server does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alignment_operator.api import (
    CONFIG_MAP,
    CYCLE,
    JOB,
    POD,
    AlreadyExistsError,
    Api,
    ConflictError,
    Kind,
    NotFoundError,
)
from alignment_operator.local.admission import InvalidObjectError
from alignment_operator.local.directory import EVENTS_KEPT, Directory
from alignment_operator.local.files import BusyError, CorruptFileError, run_lock

Manifest = dict[str, Any]


@pytest.fixture
def api(state: Path) -> Directory:
    return Directory(state)


def job(name: str = "train", **labels: str) -> Manifest:
    metadata = {"name": name, "namespace": "default", "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"backoffLimit": 1}}


def config_map(**data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "serving", "namespace": "default"},
        "data": data,
    }


def test_it_is_an_api(api: Directory) -> None:
    as_declared: Api = api
    assert as_declared is api


async def test_a_created_object_gets_an_identity_and_its_defaults(api: Directory, cycle: Manifest) -> None:
    created = await api.create(CYCLE, cycle)
    metadata = created["metadata"]
    assert metadata["uid"]
    assert metadata["resourceVersion"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert (metadata["namespace"], metadata["generation"]) == ("default", 1)
    assert created["spec"]["sampling"]["completionsPerPrompt"] == 4
    assert await api.get(CYCLE, "default", "assistant") == created


async def test_status_in_a_created_cycle_is_dropped_as_by_the_subresource(
    api: Directory, cycle: Manifest
) -> None:
    created = await api.create(CYCLE, {**cycle, "status": {"promoted": {}}})
    assert "status" not in created


async def test_creating_twice_is_refused(api: Directory) -> None:
    await api.create(JOB, job())
    with pytest.raises(AlreadyExistsError):
        await api.create(JOB, job())


async def test_what_is_not_there_is_none(api: Directory) -> None:
    assert await api.get(CYCLE, "default", "nobody") is None
    assert await api.list(JOB, "default", {}) == []


async def test_the_generation_counts_changes_of_spec_only(api: Directory, cycle: Manifest) -> None:
    created = await api.create(CYCLE, cycle)
    again = api.put(CYCLE, cycle)
    assert again["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"]
    annotated = api.annotate(CYCLE, "default", "assistant", {"alignment.dev/run": "1"})
    assert annotated["metadata"]["generation"] == 1
    assert annotated["metadata"]["resourceVersion"] != created["metadata"]["resourceVersion"]
    cycle["spec"]["training"] = {"epochs": 2}
    assert api.put(CYCLE, cycle)["metadata"]["generation"] == 2


async def test_putting_a_manifest_again_keeps_status_and_other_annotations(
    api: Directory, cycle: Manifest
) -> None:
    created = await api.create(CYCLE, cycle)
    await api.replace_status(CYCLE, {**created, "status": {"handled": {"run": "1"}}})
    api.annotate(CYCLE, "default", "assistant", {"alignment.dev/approve": "1@sha256:4be1"})
    cycle["metadata"]["annotations"] = {"team": "support"}
    put = api.put(CYCLE, cycle)
    assert put["status"] == {"handled": {"run": "1"}}
    assert put["metadata"]["annotations"] == {"alignment.dev/approve": "1@sha256:4be1", "team": "support"}


async def test_the_initial_model_is_immutable(api: Directory, cycle: Manifest) -> None:
    api.put(CYCLE, cycle)
    cycle["spec"]["policy"]["model"] = "pvc://models/m1"
    with pytest.raises(InvalidObjectError) as caught:
        api.put(CYCLE, cycle)
    assert "spec.policy.model" in str(caught.value)
    assert "pvc://models/m0" in str(caught.value)


async def test_an_invalid_spec_is_refused_with_every_problem(api: Directory, cycle: Manifest) -> None:
    cycle["spec"]["sampling"] = {"temperature": -1, "topQ": 1}
    with pytest.raises(InvalidObjectError) as caught:
        await api.create(CYCLE, cycle)
    assert [problem.path for problem in caught.value.problems] == [
        "spec.sampling.temperature",
        "spec.sampling.topQ",
    ]


async def test_a_server_that_samples_needs_a_cluster(api: Directory, cycle: Manifest) -> None:
    cycle["spec"]["sampling"] = {"server": {"image": "vllm/vllm-openai:v0.33.0"}}
    with pytest.raises(InvalidObjectError) as caught:
        await api.create(CYCLE, cycle)
    (problem,) = caught.value.problems
    assert str(problem).startswith("spec.sampling.server.image: vllm/vllm-openai:v0.33.0: needs a cluster")
    del cycle["spec"]["prompts"]
    cycle["spec"]["datasets"] = [{"name": "feedback"}]
    assert await api.create(CYCLE, cycle), "nothing is sampled offline"


async def test_a_status_decided_from_an_old_version_is_refused(api: Directory) -> None:
    created = await api.create(JOB, job())
    await api.merge(JOB, "default", "train", {"spec": {"ttlSecondsAfterFinished": 5}})
    with pytest.raises(ConflictError):
        await api.replace_status(JOB, {**created, "status": {"active": 1}})


async def test_the_status_write_leaves_the_rest_alone(api: Directory) -> None:
    created = await api.create(JOB, job())
    written = await api.replace_status(JOB, {**created, "spec": {}, "status": {"active": 1}})
    assert written["spec"] == {"backoffLimit": 1}
    assert written["metadata"]["generation"] == 1


async def test_a_status_of_nothing_is_not_found(api: Directory) -> None:
    with pytest.raises(NotFoundError):
        await api.replace_status(JOB, {**job(), "status": {}})


async def test_a_merge_removes_null_and_keeps_the_status(api: Directory) -> None:
    created = await api.create(JOB, job(team="a"))
    await api.replace_status(JOB, {**created, "status": {"active": 1}})
    merged = await api.merge(JOB, "default", "train", {"metadata": {"labels": {"team": None}}, "status": {}})
    assert merged["metadata"]["labels"] == {}
    assert merged["status"] == {"active": 1}


async def test_a_merge_for_another_uid_is_refused(api: Directory) -> None:
    await api.create(JOB, job())
    with pytest.raises(ConflictError):
        await api.merge(JOB, "default", "train", {"metadata": {"uid": "another"}})


async def test_objects_are_listed_by_label_and_namespace(api: Directory) -> None:
    await api.create(JOB, job("one", stage="train"))
    await api.create(JOB, job("two", stage="sample"))
    found = await api.list(JOB, "default", {"stage": "train"})
    assert [item["metadata"]["name"] for item in found] == ["one"]
    assert await api.list(JOB, "elsewhere", {}) == []


async def test_deleting_takes_the_dependents_along_and_another_uid_nothing(api: Directory) -> None:
    owner = await api.create(JOB, job())
    uid = owner["metadata"]["uid"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "train-0", "namespace": "default"}}
    pod["metadata"]["ownerReferences"] = [{"uid": uid}]  # type: ignore[index]
    await api.create(POD, pod)
    await api.delete(JOB, "default", "train", "another")
    assert await api.get(JOB, "default", "train") == owner
    await api.delete(JOB, "default", "train", uid)
    await api.delete(JOB, "default", "train", uid)
    assert await api.get(JOB, "default", "train") is None
    assert await api.get(POD, "default", "train-0") is None


async def test_applying_makes_the_object_and_drops_what_is_no_longer_applied(api: Directory) -> None:
    await api.apply(CONFIG_MAP, config_map(uri="a", old="b"), force=False)
    applied = await api.apply(CONFIG_MAP, config_map(uri="c"), force=False)
    assert applied["data"] == {"uri": "c"}


async def test_applying_leaves_fields_of_others_alone(api: Directory) -> None:
    await api.create(CONFIG_MAP, config_map(theirs="x"))
    applied = await api.apply(CONFIG_MAP, config_map(uri="a"), force=False)
    assert applied["data"] == {"theirs": "x", "uri": "a"}


async def test_applying_to_another_version_than_was_seen_is_refused(api: Directory) -> None:
    seen = await api.apply(CONFIG_MAP, config_map(uri="a"), force=True)
    late = config_map(uri="a")
    late["metadata"]["resourceVersion"] = seen["metadata"]["resourceVersion"]
    await api.apply(CONFIG_MAP, config_map(uri="b"), force=True)
    with pytest.raises(ConflictError):
        await api.apply(CONFIG_MAP, late, force=True)
    await api.delete(CONFIG_MAP, "default", "serving", seen["metadata"]["uid"])
    assert (await api.apply(CONFIG_MAP, late, force=True))["data"] == {"uri": "a"}


async def test_applying_over_anothers_value_needs_force(api: Directory) -> None:
    await api.create(CONFIG_MAP, config_map(uri="theirs"))
    with pytest.raises(ConflictError, match=r"data\.uri"):
        await api.apply(CONFIG_MAP, config_map(uri="ours"), force=False)
    applied = await api.apply(CONFIG_MAP, config_map(uri="ours"), force=True)
    assert applied["data"] == {"uri": "ours"}
    assert (await api.apply(CONFIG_MAP, config_map(uri="next"), force=False))["data"] == {"uri": "next"}


async def test_events_do_not_grow_without_bound(api: Directory, cycle: Manifest) -> None:
    created = await api.create(CYCLE, cycle)
    lines = "".join(f'{{"message": "{number}"}}\n' for number in range(EVENTS_KEPT))
    (api.state / "events.jsonl").write_text(lines)
    await api.emit(created, "IterationStarted", "iteration 1 started", warning=False)
    kept = [json.loads(line) for line in (api.state / "events.jsonl").read_text().splitlines()]
    assert len(kept) == EVENTS_KEPT
    assert kept[0]["message"] == "1"
    assert kept[-1]["reason"] == "IterationStarted"
    assert kept[-1]["object"]["name"] == "assistant"


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "A"])
async def test_a_name_cannot_leave_the_folder(api: Directory, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        await api.get(CYCLE, "default", name)


@pytest.mark.parametrize(
    "broken", ['{"kind": ', "{}", "[1]", '"x"', '{"metadata": 1}', '{"metadata": {"name": "assistant"}}']
)
@pytest.mark.parametrize("kind", [CYCLE, JOB])
async def test_a_broken_file_is_named(api: Directory, kind: Kind, broken: str) -> None:
    path = api.state / "objects" / kind.plural / "default" / "assistant.json"
    path.parent.mkdir(parents=True)
    path.write_text(broken)
    with pytest.raises(CorruptFileError, match=str(path)):
        await api.get(kind, "default", "assistant")
    with pytest.raises(CorruptFileError, match="mend it, or delete it to begin anew"):
        await api.list(kind, "default", {})


async def test_a_write_that_was_cut_short_is_not_seen(api: Directory, cycle: Manifest) -> None:
    created = await api.create(CYCLE, cycle)
    folder = api.state / "objects" / "alignmentcycles" / "default"
    (folder / ".assistant.json.1.new").write_text('{"kind": ')
    assert await api.list(CYCLE, "default", {}) == [created]


def test_two_writers_at_once_lose_nothing(state: Path, cycle: Manifest) -> None:
    Directory(state).put(CYCLE, cycle)
    program = (
        "import sys; from pathlib import Path\n"
        "from alignment_operator.api import CYCLE; from alignment_operator.local.directory import Directory\n"
        "api = Directory(Path(sys.argv[1]))\n"
        "for n in range(20): api.annotate(CYCLE, 'default', 'assistant', {f'{sys.argv[2]}-{n}': 'x'})\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(state), name]) for name in ("a", "b")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    annotations = Directory(state).all(CYCLE)[0]["metadata"]["annotations"]
    assert len(annotations) == 40


def test_a_second_run_on_the_folder_is_refused_and_told_who_has_it(state: Path) -> None:
    with run_lock(state), pytest.raises(BusyError, match=f"process {os.getpid()}"), run_lock(state):
        pass
    with run_lock(state):
        pass


def test_reading_needs_no_lock(state: Path, cycle: Manifest, api: Directory) -> None:
    api.put(CYCLE, cycle)
    with run_lock(state):
        assert len(api.all(CYCLE)) == 1

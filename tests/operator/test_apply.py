"""`apply` on a real API server: what is written, in which order, and what is not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment_api import digests, names
from alignment_api.conditions import Condition
from alignment_api.cycle_status import TargetStatus
from alignment_api.pods import PodDefaults
from alignment_operator.api import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    CYCLE,
    INFERENCE_SERVICE,
    JOB,
    ConflictError,
    Manifest,
)
from alignment_operator.apply import apply_cycle
from alignment_operator.cluster import Cluster
from alignment_operator.observe import observe_cycle
from alignment_operator.observed import ObservedCycle
from alignment_operator.plan.cycle import plan as cycle_plan
from alignment_operator.planned import CyclePlan, DeleteJob, Event, ExpireJob, Freeze, PointTarget, StartJob
from alignment_operator.reconcile import one_pass
from alignment_operator.render import render_job
from tests.cluster.client import Namespace
from tests.cluster.crds import serve
from tests.cluster.waiting import wait_until
from tests.operator.edges import SETTINGS, KilledError, OnApi, Recorder, cycle, now, stage_config

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]


async def made(api: Cluster, namespace: Namespace, name: str = "support", **spec: Any) -> ObservedCycle:
    await api.create(CYCLE, cycle(name, namespace.name, **spec))
    return await seen(api, namespace, name)


async def seen(api: Cluster, namespace: Namespace, name: str = "support") -> ObservedCycle:
    observed = await observe_cycle(api, namespace.name, name, SETTINGS)
    assert observed is not None
    return observed


async def until_quiet(api: Any, namespace: Namespace, name: str = "support") -> list[str]:
    """Pass after pass until one changes nothing; the status versions written."""
    written: list[str] = []
    for _ in range(10):
        outcome = await one_pass(api, CYCLE, namespace.name, name, now(), SETTINGS)
        if outcome.written is None:
            return written
        written.append(outcome.written)
    raise AssertionError("it never came to rest")


def start(name: str = "support-1-sample-0-abcdef", hash_: str = "f" * 64, **pods: Any) -> StartJob:
    return StartJob(name, hash_, stage_config(iteration=1), 0, PodDefaults(**pods))


def plan(observed: ObservedCycle, *actions: Any, events: tuple[Event, ...] = ()) -> CyclePlan:
    return CyclePlan(actions, observed.status, events)


def test_a_pass_makes_things_then_writes_status_once_and_tells_last(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> list[str]:
        await made(api, namespace)
        recorder = Recorder(api)
        await until_quiet(recorder, namespace)
        return recorder.writes

    writes = on_api(work)
    job = next(write.split()[-1] for write in writes if write.startswith("create Job"))
    assert writes[:6] == [
        "create ControllerRevision support-1",
        "status AlignmentCycle support",
        "emit IterationStarted support",
        f"create Job {job}",
        "status AlignmentCycle support",
        "emit StageStarted support",
    ]


def test_applying_the_same_manifest_again_writes_nothing(on_api: OnApi[Any], namespace: Namespace) -> None:
    manifest = cycle("support", namespace.name)
    namespace.apply(manifest)

    async def settle(api: Cluster) -> None:
        await until_quiet(api, namespace)

    on_api(settle)
    wait_until(lambda: unschedulable(namespace), "the scheduler has said that there is no such claim")
    on_api(settle)
    namespace.apply(manifest)
    before = namespace.get(CYCLE.api_version, CYCLE.plural, "support")

    async def again(api: Cluster) -> list[str]:
        recorder = Recorder(api)
        await until_quiet(recorder, namespace)
        return recorder.writes

    assert on_api(again) == []
    assert namespace.get(CYCLE.api_version, CYCLE.plural, "support") == before


def unschedulable(namespace: Namespace) -> bool:
    conditions = [row for pod in namespace.list("v1", "pods") for row in pod["status"].get("conditions", ())]
    return any(row["type"] == "PodScheduled" and row["status"] == "False" for row in conditions)


@pytest.mark.parametrize("writes_before_death", range(6))
def test_killed_before_any_write_it_goes_on_and_does_nothing_twice(
    on_api: OnApi[Any], namespace: Namespace, writes_before_death: int
) -> None:
    async def work(api: Cluster) -> ObservedCycle:
        await made(api, namespace)
        with pytest.raises(KilledError):
            await until_quiet(Recorder(api, die_before=writes_before_death), namespace)
        await until_quiet(api, namespace)
        return await seen(api, namespace)

    observed = on_api(work)
    (job,) = namespace.list(JOB.api_version, JOB.plural)
    (revision,) = namespace.list(CONTROLLER_REVISION.api_version, CONTROLLER_REVISION.plural)
    assert revision["metadata"]["name"] == "support-1"
    assert observed.status.iteration is not None
    (stage,) = observed.status.iteration.stages
    assert (stage.job, stage.job_uid) == (job["metadata"]["name"], job["metadata"]["uid"])
    assert observed.status.handled == {"run": "first"}


def test_a_job_of_ours_that_is_there_already_is_adopted_and_looked_at_again(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> None:
        observed = await made(api, namespace)
        first = await apply_cycle(api, observed, plan(observed, start()))
        second = await apply_cycle(api, observed, plan(observed, start()))
        assert (first.unseen, second.unseen) == (False, True)

    on_api(work)
    assert len(namespace.list(JOB.api_version, JOB.plural)) == 1


@pytest.mark.parametrize("difference", ["no owner", "another owner", "hash"])
def test_a_job_of_that_name_that_is_not_ours_is_left_alone_and_named(
    on_api: OnApi[Any], namespace: Namespace, difference: str
) -> None:
    async def work(api: Cluster) -> None:
        observed = await made(api, namespace)
        theirs = render_job(observed.owner, start(hash_="e" * 64), SETTINGS)
        if difference != "hash":
            theirs["metadata"]["annotations"][names.ANNOTATION_STAGE_HASH] = "f" * 64
        if difference == "no owner":
            del theirs["metadata"]["ownerReferences"]
        if difference == "another owner":
            another = await made(api, namespace, "another")
            theirs["metadata"]["ownerReferences"][0] |= {"name": "another", "uid": another.owner.uid}
        await api.create(JOB, theirs)
        applied = await apply_cycle(api, observed, plan(observed, start()))
        assert applied.refused

    on_api(work)
    events = {event["reason"]: event for event in namespace.list("events.k8s.io/v1", "events")}
    assert events["NameTaken"]["type"] == "Warning"
    assert re.search(r"support-1-sample-0-abcdef .* delete it to go on", events["NameTaken"]["note"])
    (job,) = namespace.list(JOB.api_version, JOB.plural)
    assert "deletionTimestamp" not in job["metadata"]


def test_a_job_of_ours_that_is_being_deleted_is_waited_for(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        observed = await made(api, namespace)
        held = render_job(observed.owner, start(), SETTINGS)
        held["metadata"]["finalizers"] = ["example.com/held"]
        going = await api.create(JOB, held)
        await api.delete(JOB, namespace.name, start().name, going["metadata"]["uid"])
        with pytest.raises(ConflictError, match="is being deleted; it is made again when it is gone"):
            await apply_cycle(api, observed, plan(observed, start()))
        await api.merge(JOB, namespace.name, start().name, {"metadata": {"finalizers": None}})

    on_api(work)


def test_what_an_iteration_froze_is_never_taken_for_something_else(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> None:
        observed = await made(api, namespace)
        decided = cycle_plan(observed, now())
        (freeze,) = (action for action in decided.actions if isinstance(action, Freeze))
        for _ in range(2):  # the second time it is there, as it should be
            await apply_cycle(api, observed, plan(observed, freeze))
        another = Freeze(replace(freeze.frozen, handled_run="another"))
        with pytest.raises(ConflictError, match="froze something else; plan again with it"):
            await apply_cycle(api, observed, plan(observed, another))

    on_api(work)


def test_a_job_that_the_server_refuses_is_told_in_status_and_waits(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    spec: dict[str, Any] = {
        "defaults": {"resources": {"limits": {"cpu": "1"}}},
        "stages": {"sample": {"resources": {"requests": {"cpu": "2"}}}},
    }

    async def work(api: Cluster) -> None:
        await made(api, namespace, **spec)
        await until_quiet(api, namespace)

    on_api(work)
    events = {event["reason"]: event for event in namespace.list("events.k8s.io/v1", "events")}
    assert "must be less than or equal to cpu limit" in events["JobRefused"]["note"]
    cycle = namespace.get(CYCLE.api_version, CYCLE.plural, "support")
    assert cycle is not None
    (stage,) = cycle["status"]["iteration"]["stages"]
    assert "job" not in stage
    assert stage["reason"] == "Refused"
    assert stage["pendingSince"]
    assert "must be less than or equal to cpu limit" in stage["message"]


def test_a_target_that_cannot_be_written_is_told_and_stops_nothing_else(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    frozen = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "served"}, "data": {"uri": "x"}}
    namespace.apply({**frozen, "immutable": True})
    unsynced = Condition(
        type="TargetsSynced",
        status="False",
        reason="Updating",
        message="writing",
        observed_generation=1,
        last_transition_time="2026-11-23T03:00:00Z",
    )

    async def work(api: Cluster) -> None:
        promotion = {"targets": [{"configMap": {"name": "served", "key": "uri"}}]}
        observed = await made(api, namespace, promotion=promotion)
        status = observed.status.model_copy(update={"conditions": [unsynced]})
        point = PointTarget("served", "uri", "pvc://models/new", "sha256:" + "1" * 64)
        applied = await apply_cycle(api, observed, CyclePlan((point,), status))
        assert applied.refused

    on_api(work)
    cycle = namespace.get(CYCLE.api_version, CYCLE.plural, "support")
    assert cycle is not None
    (condition,) = cycle["status"]["conditions"]
    assert condition["reason"] == "Refused"
    assert "immutable" in condition["message"]


def test_nothing_is_written_from_what_was_seen_too_long_ago(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> Manifest | None:
        observed = await made(api, namespace)
        await api.merge(
            CYCLE, namespace.name, "support", {"metadata": {"annotations": {"alignment.dev/run": "2"}}}
        )
        status = observed.status.model_copy(update={"observed_generation": 99})
        told = (Event("Promoted", "never told"),)
        recorder = Recorder(api)
        with pytest.raises(ConflictError):
            await apply_cycle(recorder, observed, CyclePlan((), status, told))
        assert recorder.writes == ["status AlignmentCycle support"]
        return await api.get(CYCLE, namespace.name, "support")

    there = on_api(work)
    assert there is not None
    assert "status" not in there


def test_only_the_named_job_is_deleted_or_expires(on_api: OnApi[Any], namespace: Namespace) -> None:
    another = "00000000-0000-4000-8000-000000000000"

    async def work(api: Cluster) -> tuple[Manifest | None, Manifest | None, Manifest | None]:
        observed = await made(api, namespace)
        name = start().name
        await apply_cycle(api, observed, plan(observed, start()))
        job = await api.get(JOB, namespace.name, name)
        assert job is not None
        uid = job["metadata"]["uid"]
        await apply_cycle(
            api, observed, plan(observed, DeleteJob(name, another), ExpireJob(name, another, 5))
        )
        untouched = await api.get(JOB, namespace.name, name)
        await apply_cycle(api, observed, plan(observed, ExpireJob(name, uid, 60)))
        expiring = await api.get(JOB, namespace.name, name)
        gone = ExpireJob("gone", uid, 60), DeleteJob("gone", uid)
        await apply_cycle(api, observed, plan(observed, DeleteJob(name, uid), *gone))
        return untouched, expiring, await api.get(JOB, namespace.name, name)

    untouched, expiring, deleted = on_api(work)
    assert untouched is not None
    assert expiring is not None
    assert "ttlSecondsAfterFinished" not in untouched["spec"]
    assert expiring["spec"]["ttlSecondsAfterFinished"] == 60
    assert deleted is None or "deletionTimestamp" in deleted["metadata"]


def test_an_inference_services_storage_uri_is_set_and_the_rest_is_left(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    serve(namespace.client, Path(__file__).with_name("inference_service_crd.yaml"))
    model = {"modelFormat": {"name": "huggingface"}, "storageUri": "pvc://models/m0"}
    spec = {"predictor": {"minReplicas": 2, "model": model}}
    api_version = INFERENCE_SERVICE.api_version
    there = {
        "apiVersion": api_version,
        "kind": "InferenceService",
        "metadata": {"name": "served"},
        "spec": spec,
    }
    namespace.apply(there)
    digest = digests.of_bytes(b"m1")

    async def work(api: Cluster) -> ObservedCycle:
        observed = await made(
            api, namespace, promotion={"targets": [{"inferenceService": {"name": "served"}}]}
        )
        point = PointTarget("served", "storageUri", "pvc://models/m1", digest, "InferenceService")
        await apply_cycle(api, observed, plan(observed, point))
        return await seen(api, namespace)

    (target,) = on_api(work).targets
    assert (target.value, target.digest, target.exists) == ("pvc://models/m1", digest, True)
    assert target.held_by is None
    found = namespace.get(api_version, INFERENCE_SERVICE.plural, "served")
    assert found is not None
    assert found["spec"]["predictor"] == {
        "minReplicas": 2,
        "model": {**model, "storageUri": "pvc://models/m1"},
    }


def test_a_target_is_pointed_with_all_its_keys_and_keeps_what_others_set(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    keys = ({"key": "uri"}, {"key": "model", "digestKey": "digest"})
    targets = [{"configMap": {"name": "served", **each}} for each in keys]
    theirs = {"metadata": {"name": "served", "labels": {"team": "a"}}, "data": {"theirs": "kept"}}
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", **theirs})
    digest = digests.of_bytes(b"m1")

    async def work(api: Cluster) -> ObservedCycle:
        observed = await made(api, namespace, promotion={"targets": targets})
        point = PointTarget("served", "uri", "pvc://models/m1", digest)
        applied = await apply_cycle(api, observed, plan(observed, point, replace(point, key="model")))
        assert applied.unseen
        return await seen(api, namespace)

    observed = on_api(work)
    served = namespace.get(CONFIG_MAP.api_version, CONFIG_MAP.plural, "served")
    assert served is not None
    uri = "pvc://models/m1"
    assert served["data"] == {"theirs": "kept", "uri": uri, "model": uri, "digest": digest}
    assert [target.digest_value for target in observed.targets] == [None, digest]
    assert served["metadata"]["labels"] == {"team": "a", names.LABEL_CYCLE: "support"}
    promoted_by = f"{namespace.name}/support/{observed.owner.uid}"
    for target, key in zip(observed.targets, ("uri", "model"), strict=True):
        assert (target.name, target.key, target.exists) == ("served", key, True)
        assert (target.value, target.digest, target.owner) == ("pvc://models/m1", digest, promoted_by)


def test_a_pass_that_was_held_up_puts_nothing_older_in_the_place_of_what_is_served(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    """Two promotions, the second while a pass of the first one still has its write before it."""
    older, newer = (
        PointTarget("served", "uri", f"pvc://models/{name}", digests.of_bytes(name.encode()))
        for name in ("m1", "m2")
    )

    async def work(api: Cluster) -> None:
        observed = await made(
            api, namespace, promotion={"targets": [{"configMap": {"name": "served", "key": "uri"}}]}
        )
        await apply_cycle(api, observed, plan(observed, older))
        held_up = await seen(api, namespace)
        (target,) = held_up.targets
        await apply_cycle(
            api, held_up, plan(held_up, replace(newer, resource_version=target.resource_version))
        )
        late = replace(older, resource_version=target.resource_version)
        row = TargetStatus(kind="ConfigMap", name="served", key="uri", digest=older.digest)
        planned = CyclePlan((late,), held_up.status.model_copy(update={"targets": [row]}))
        applied = await apply_cycle(api, held_up, planned)
        assert applied.unseen, "it looks again"
        assert not applied.refused
        assert applied.status is None, "nothing counts as written"

    on_api(work)
    served = namespace.get(CONFIG_MAP.api_version, CONFIG_MAP.plural, "served")
    assert served is not None
    assert served["data"]["uri"] == newer.uri
    assert served["metadata"]["annotations"][names.ANNOTATION_DIGEST] == newer.digest


def test_a_target_that_was_deleted_since_it_was_seen_is_made_again(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    point = PointTarget("served", "uri", "pvc://models/m1", digests.of_bytes(b"m1"))

    async def work(api: Cluster) -> None:
        observed = await made(
            api, namespace, promotion={"targets": [{"configMap": {"name": "served", "key": "uri"}}]}
        )
        await apply_cycle(api, observed, plan(observed, point))
        (target,) = (await seen(api, namespace)).targets
        namespace.kubectl("delete", "configmap", "served")
        again = await seen(api, namespace)
        late = replace(point, resource_version=target.resource_version)
        await apply_cycle(api, again, plan(again, late))

    on_api(work)
    assert namespace.get(CONFIG_MAP.api_version, CONFIG_MAP.plural, "served")

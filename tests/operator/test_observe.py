"""`observe`: what a pass sees, of real objects on a real API server and of pods in every state."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_api import digests, names
from alignment_api.cycle_status import AlignmentCycleStatus, Iteration, StageStatus
from alignment_api.pods import PodDefaults
from alignment_api.stage import CONTRACT_VERSION, Stage
from alignment_operator.api import CONTROLLER_REVISION, CYCLE, DATASET, JOB, Manifest
from alignment_operator.cluster import Cluster
from alignment_operator.observe import JobSource, Known, observe_cycle, observe_dataset
from alignment_operator.observe.jobs import slim
from alignment_operator.observe.objects import UnreadableError, status_of
from alignment_operator.observed import Frozen, JobState, JobView, ObservedCycle, PodView
from alignment_operator.planned import StartJob
from alignment_operator.render import render_job, render_revision
from tests.cluster.client import Namespace
from tests.operator.edges import SETTINGS, VERSION, OnApi, cycle, finished_job, stage_config

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]


async def made(api: Cluster, namespace: Namespace, **spec: Any) -> ObservedCycle:
    await api.create(CYCLE, cycle("support", namespace.name, **spec))
    return await seen(api, namespace)


async def seen(api: Cluster, namespace: Namespace, jobs: JobSource | None = None) -> ObservedCycle:
    observed = await observe_cycle(api, namespace.name, "support", SETTINGS, Known(jobs))
    assert observed is not None
    return observed


def running(stage: StageStatus, number: int = 1) -> AlignmentCycleStatus:
    iteration = Iteration(
        number=number,
        trigger="Manual",
        generation=1,
        revision=f"support-{number}",
        started_at="2026-11-23T03:00:00Z",
        stages=[stage],
    )
    return AlignmentCycleStatus(iteration=iteration)


async def with_status(api: Cluster, observed: ObservedCycle, status: Manifest) -> None:
    owner = observed.owner
    metadata = {"name": owner.name, "namespace": owner.namespace, "resourceVersion": owner.resource_version}
    identity = {"apiVersion": VERSION, "kind": "AlignmentCycle", "metadata": metadata}
    await api.replace_status(CYCLE, {**identity, "status": status})


def job(observed: ObservedCycle, script: str) -> Manifest:
    """A Job as it is rendered, but for the worker, in whose place a script runs."""
    files = stage_config(output="file:///tmp/out", inputs={}, iteration=1, owner_uid=observed.owner.uid)
    start = StartJob("support-1-sample-0-abcdef", "f" * 64, files, 0, PodDefaults(retries=0, image="busybox"))
    manifest = render_job(observed.owner, start, SETTINGS)
    worker = manifest["spec"]["template"]["spec"]["containers"][0]
    worker |= {"command": ["sh", "-c"], "args": [script]}
    return manifest


@pytest.mark.parametrize(
    ("script", "state", "pod", "failure"),
    [
        (
            "echo -n all well > /dev/termination-log",
            JobState.SUCCEEDED,
            PodView(exit_code=0, report="all well", started=True),
            "",
        ),
        (
            "echo -n no prompt > /dev/termination-log; exit 65",
            JobState.FAILED,
            PodView(exit_code=65, report="no prompt", started=True),
            "PodFailurePolicy",
        ),
        ("exit 3", JobState.FAILED, PodView(exit_code=3, started=True), "BackoffLimitExceeded"),
    ],
)
def test_a_finished_job_is_seen_with_what_its_worker_said(
    on_api: OnApi[Any], namespace: Namespace, script: str, state: JobState, pod: PodView, failure: str
) -> None:
    async def begin(api: Cluster) -> None:
        await api.create(JOB, job(await made(api, namespace), script))

    on_api(begin)
    finished_job(namespace, "support-1-sample-0-abcdef")

    async def look(api: Cluster) -> tuple[JobView, ...]:
        return (await seen(api, namespace)).jobs

    (view,) = on_api(look)
    assert (view.stage, view.iteration, view.attempt, view.hash) == (Stage.SAMPLE, 1, 0, "f" * 64)
    assert (view.state, view.pod, view.failure) == (state, pod, failure)


def test_a_job_whose_worker_runs_has_started(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def begin(api: Cluster) -> None:
        await api.create(JOB, job(await made(api, namespace), "sleep 300"))

    on_api(begin)
    namespace.wait(
        "batch/v1",
        "jobs",
        "support-1-sample-0-abcdef",
        lambda it: it.get("status", {}).get("ready"),
        "it runs",
    )

    async def look(api: Cluster) -> tuple[JobView, ...]:
        return (await seen(api, namespace)).jobs

    (view,) = on_api(look)
    assert (view.state, view.pod) == (JobState.ACTIVE, PodView(started=True))


def test_a_job_that_the_cache_lacks_is_looked_up_before_it_is_gone(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> list[tuple[JobView, ...]]:
        observed = await made(api, namespace)
        waiting = StageStatus(
            name=Stage.SAMPLE, state="Pending", job="support-1-sample-0-abcdef", job_uid="x"
        )
        await with_status(api, observed, running(waiting).to_wire())
        before = await seen(api, namespace, jobs=lambda _namespace, _uid: [])
        await api.create(JOB, job(observed, "sleep 300"))
        after = await seen(api, namespace, jobs=lambda _namespace, _uid: [])
        return [before.jobs, after.jobs]

    before, after = on_api(work)
    assert before == ()
    assert [view.name for view in after] == ["support-1-sample-0-abcdef"]


def test_the_cache_may_keep_less_of_a_job_and_nothing_is_missed(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def begin(api: Cluster) -> None:
        await api.create(JOB, job(await made(api, namespace), "exit 64"))

    on_api(begin)
    whole = finished_job(namespace, "support-1-sample-0-abcdef")

    async def look(api: Cluster) -> list[tuple[JobView, ...]]:
        kept = slim(whole)
        return [(await seen(api, namespace)).jobs, (await seen(api, namespace, jobs=lambda *_: [kept])).jobs]

    from_api, from_cache = on_api(look)
    assert from_api == from_cache
    assert len(str(slim(whole))) < len(str(whole)) / 4


def test_what_a_newer_operator_wrote_into_status_is_passed_over() -> None:
    known = running(StageStatus(name=Stage.SAMPLE, state="Pending"))
    status = {**known.to_wire(), "notYetKnown": "2026-11-30T03:00:00Z"}
    status["iteration"]["stages"][0]["shards"] = 4
    assert status_of(AlignmentCycleStatus, {"status": status}) == known


def test_a_status_that_cannot_be_read_is_never_taken_for_an_empty_one() -> None:
    status = running(StageStatus(name=Stage.SAMPLE, state="Pending")).to_wire()
    status["iteration"]["stages"][0]["state"] = "Paused"
    manifest = {"kind": "AlignmentCycle", "metadata": {"name": "support"}, "status": status}
    with pytest.raises(UnreadableError, match=r"support: status\.iteration\.stages\.0\.state: Paused"):
        status_of(AlignmentCycleStatus, manifest)


def test_a_cycle_that_is_gone_or_going_is_not_seen(on_api: OnApi[Any], namespace: Namespace) -> None:
    async def work(api: Cluster) -> None:
        assert await observe_cycle(api, namespace.name, "support", SETTINGS) is None
        assert await observe_dataset(api, namespace.name, "support", SETTINGS) is None
        held = cycle("support", namespace.name)
        held["metadata"]["finalizers"] = ["example.com/held"]
        made_ = await api.create(CYCLE, held)
        await api.delete(CYCLE, namespace.name, "support", made_["metadata"]["uid"])
        assert await api.get(CYCLE, namespace.name, "support") is not None
        assert await observe_cycle(api, namespace.name, "support", SETTINGS) is None
        await api.merge(CYCLE, namespace.name, "support", {"metadata": {"finalizers": None}})

    on_api(work)


def revision(observed: ObservedCycle, number: int) -> Manifest:
    assert observed.spec is not None
    frozen = Frozen(
        name=names.revision_name("support", number),
        number=number,
        trigger="Manual",
        slot="",
        started_at="2026-11-23T03:00:00Z",
        handled_run=str(number),
        generation=1,
        spec=observed.spec,
        incumbent=None,
        datasets=(),
        contract_version=CONTRACT_VERSION,
    )
    return render_revision(observed.owner, frozen)


def test_what_iterations_froze_is_seen_unless_another_cycle_froze_it(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    async def work(api: Cluster) -> list[list[int]]:
        observed = await made(api, namespace)
        for number in (1, 2):
            await api.create(CONTROLLER_REVISION, revision(observed, number))
        lost = await seen(api, namespace)
        status = running(StageStatus(name=Stage.SAMPLE, state="Pending"))
        await with_status(api, observed, status.to_wire())
        current = await seen(api, namespace)
        assert status.iteration is not None
        ended = status.model_copy(
            update={"iteration": status.iteration.model_copy(update={"outcome": "Failed"})}
        )
        await with_status(api, current, ended.to_wire())
        between = await seen(api, namespace)
        mine = await api.get(CONTROLLER_REVISION, namespace.name, "support-2")
        assert mine is not None
        await api.delete(CONTROLLER_REVISION, namespace.name, "support-2", mine["metadata"]["uid"])
        theirs = revision(observed, 2)
        del theirs["metadata"]["ownerReferences"]
        await api.create(CONTROLLER_REVISION, theirs)
        foreign = await seen(api, namespace)
        status = running(StageStatus(name=Stage.SAMPLE, state="Pending"), number=2)
        await with_status(api, foreign, status.to_wire())
        running_foreign = await seen(api, namespace)
        return [sorted(each.frozen) for each in (lost, current, between, foreign, running_foreign)]

    assert on_api(work) == [[1, 2], [1], [1, 2], [1], []]


def test_a_dataset_is_ready_only_when_its_newest_change_is_taken_in(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    files = {"uri": "pvc://data/pairs.jsonl"}
    dataset = {
        "apiVersion": VERSION,
        "kind": "PreferenceDataset",
        "metadata": {"name": "feedback", "namespace": namespace.name},
        "spec": {"store": {"uri": "pvc://data/store"}, "sources": [{"name": "a", "files": files}]},
    }
    digest = digests.of_bytes(b"pairs")
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "Ingested",
        "message": "10 pairs",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-11-23T03:00:00Z",
    }
    revision_ = {"number": 4, "uri": "pvc://data/store/4", "digest": digest, "at": "2026-11-23T03:00:00Z"}
    status = {
        "observedGeneration": 1,
        "conditions": [ready],
        "revision": revision_,
        "pairs": 7,
        "unpaired": 3,
    }

    async def work(api: Cluster) -> list[str]:
        found = [(await made(api, namespace, datasets=[{"name": "feedback"}])).datasets[0]]
        made_ = await api.create(DATASET, dataset)
        found.append((await seen(api, namespace)).datasets[0])
        await api.replace_status(DATASET, {**made_, "status": status})
        found.append((await seen(api, namespace)).datasets[0])
        await api.merge(CYCLE, namespace.name, "support", {"spec": {"training": {"method": "KTO"}}})
        found.append((await seen(api, namespace)).datasets[0])
        counted = {**revision_, "pairsEver": 9, "unpairedEver": 5}
        stored = await api.get(DATASET, namespace.name, "feedback")
        assert stored is not None
        await api.replace_status(DATASET, {**stored, "status": {**status, "revision": counted}})
        found.append((await seen(api, namespace)).datasets[0])
        elsewhere = {"spec": {"store": {"uri": "pvc://data/elsewhere"}}}
        await api.merge(DATASET, namespace.name, "feedback", elsewhere)
        found.append((await seen(api, namespace)).datasets[0])
        held = [(view.revision.revision, view.revision.pairs) if view.revision else None for view in found]
        return [view.message or str(there) for view, there in zip(found, held, strict=True)]

    absent, new, done, by_kto, ever, changed = on_api(work)
    assert "there is no PreferenceDataset 'feedback'" in absent
    assert "not taken in yet" in new
    assert (done, by_kto, ever) == ("(4, 7)", "(4, 10)", "(4, 14)")
    assert "not taken in yet" in changed

"""Jobs of a stage on a real control plane: nodes that are lost, Kueue's queue, several pods, and their end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alignment_api import names
from alignment_api.pods import PodDefaults
from alignment_api.stage import SampleParameters, Stage, StageConfig, TrainParameters
from alignment_operator.api import CYCLE
from alignment_operator.apply import apply_cycle
from alignment_operator.cluster import Cluster, connect
from alignment_operator.observe import observe_cycle
from alignment_operator.observed import Settings
from alignment_operator.planned import CyclePlan, StartJob
from alignment_operator.reconcile import one_pass
from tests.cluster.api import Json
from tests.cluster.bed import Bed
from tests.cluster.client import Client, Namespace, temporary_namespace
from tests.cluster.crds import serve
from tests.cluster.images import Bind, Image
from tests.cluster.manifests import claim, leaving_lost_nodes
from tests.cluster.waiting import wait_until
from tests.operator.edges import cycle, stage_config
from tests.operator.kueue import Kueue, serve_workloads

pytest_plugins = ["tests.cluster.fixtures"]

SETTINGS = Settings(worker_image="sleeper")


@dataclass
class Site:
    """A cluster of our own, whose workers only sleep, with one cycle; passes are made by hand, at any time."""

    bed: Bed
    namespace: Namespace

    def pass_(self, later: timedelta = timedelta()) -> Json:
        """The first stage's status after it."""
        self._run(
            lambda api: one_pass(api, CYCLE, self.namespace.name, "support", self._now() + later, SETTINGS)
        )
        found = self.namespace.get("alignment.dev/v1alpha1", "alignmentcycles", "support")
        assert found is not None
        stages: list[Json] = found["status"]["iteration"]["stages"] or [{}]
        return stages[0]

    def apply(self, start: StartJob) -> None:
        async def work(api: Cluster) -> None:
            observed = await observe_cycle(api, self.namespace.name, "support", SETTINGS)
            assert observed is not None
            await apply_cycle(api, observed, CyclePlan((start,), observed.status))

        self._run(work)

    def begin(self, **spec: object) -> Json:
        """A cycle whose first Job is made; the stage's status."""
        self.namespace.apply(claim("models"), cycle("support", self.namespace.name, **spec))
        return wait_until(lambda: (stage := self.pass_()).get("jobUID") and stage, "its Job is made")

    def running(self, job: str) -> Json:
        def look() -> Json | None:
            pods = self.namespace.pods_of(job)
            return next((pod for pod in pods if pod["status"].get("phase") == "Running"), None)

        return wait_until(look, f"a pod of {job} runs", 60)

    def until(self, holds: Callable[[Json], object], what: str) -> Json:
        """Passes until the stage is so."""

        def look() -> Json | None:
            stage = self.pass_()
            return stage if holds(stage) else None

        return wait_until(look, what, 60)

    def suspend(self, *, to: bool) -> None:
        patch = f'{{"spec": {{"suspend": {str(to).lower()}}}}}'
        self.namespace.kubectl("patch", "acyc", "support", "--type=merge", "-p", patch)

    def _now(self) -> datetime:
        return datetime.now(UTC)

    def _run(self, work: Callable[[Cluster], object]) -> None:
        async def connected() -> None:
            async with connect() as api:
                await work(api)  # type: ignore[misc]

        asyncio.run(connected())


@pytest.fixture
def site(new_bed: Callable[..., Bed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python").write_text("#!/bin/sh\ntrap 'exit 143' TERM\nsleep 600 &\nwait\n")
    (programs / "python").chmod(0o755)
    sleeper = Image(
        "sleeper", env={"PATH": "/programs:/usr/bin:/bin"}, binds=(Bind(str(programs), "/programs"),)
    )
    controllers = ["--node-monitor-grace-period=2s", "--node-monitor-period=500ms", "--node-eviction-rate=10"]
    bed = new_bed(
        images=(sleeper,), extra_args={"kube-controller-manager": controllers}, heartbeat_seconds=0.5
    )
    monkeypatch.setenv("KUBECONFIG", str(bed.kubeconfig))
    with Client(bed.kubeconfig) as client:
        serve(client)
        with temporary_namespace(client, "jobs") as namespace:
            yield Site(bed, namespace)


def test_a_stage_on_a_lost_node_is_started_again_on_another_without_costing_a_retry(site: Site) -> None:
    first = site.begin(defaults={"tolerations": leaving_lost_nodes(1), "retries": 0})
    lost = site.running(first["job"])
    with site.bed.lost_node():
        site.bed.another_node("spare")

        def terminating() -> Json | None:
            pods = site.namespace.pods_of(first["job"])
            return next((pod for pod in pods if pod["metadata"].get("deletionTimestamp")), None)

        left = wait_until(terminating, "the pod is Terminating, and nothing ends it", 60)
        assert site.pass_()["job"] == first["job"], "its grace is not over"
        assert len(site.namespace.pods_of(first["job"])) == 1, (
            "the Job controller replaces it only once it has ended"
        )
        grace = timedelta(seconds=left["metadata"]["deletionGracePeriodSeconds"])
        waiting = site.pass_(grace + timedelta(seconds=31))
        assert (waiting["attempt"], waiting["disruptions"]) == (1, 1)
        assert "its node is lost" in waiting["message"]
        again = site.until(lambda stage: stage["state"] == "Running", "the next attempt runs")
        assert site.running(again["job"])["spec"]["nodeName"] == "spare"
        assert site.namespace.get("batch/v1", "jobs", first["job"]) is None
        assert site.namespace.get("v1", "pods", lost["metadata"]["name"]) is not None, (
            "until its node is back"
        )
    wait_until(
        lambda: site.namespace.get("v1", "pods", lost["metadata"]["name"]) is None, "the old pod goes then"
    )


def test_kueue_admits_evicts_and_admits_again_and_the_stage_goes_along(site: Site) -> None:
    first = site.begin(defaults={"queueName": "team-a", "retries": 0, "pendingDeadlineSeconds": 60})
    job = site.namespace.get("batch/v1", "jobs", first["job"])
    assert job is not None
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert site.pass_()["message"] == "waits for admission in queue team-a", "without Kueue's kinds too"

    serve_workloads(site.namespace.client)
    kueue = Kueue(site.namespace, first["job"])
    kueue.waits("couldn't assign flavors to pod set main: insufficient quota for cpu")
    waiting = site.pass_(timedelta(hours=5))
    assert waiting["state"] == "Pending"
    assert waiting["message"].endswith(
        "team-a: couldn't assign flavors to pod set main: insufficient quota for cpu"
    )

    kueue.admits({"kubernetes.io/hostname": "process-node"})
    assert site.running(first["job"])["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "process-node"}
    site.until(lambda stage: stage["state"] == "Running", "it runs")

    kueue.evicts("Preempted to accommodate a workload of higher priority")
    evicted = site.pass_(timedelta(hours=5))
    assert (evicted["state"], evicted["attempt"], evicted["disruptions"]) == ("Pending", 0, 0)
    assert "Preempted to accommodate" in evicted["message"]

    kueue.admits({"kubernetes.io/hostname": "process-node"})
    site.running(first["job"])
    again = site.until(lambda stage: stage["state"] == "Running", "it runs again")
    assert (again["job"], again["jobUID"]) == (first["job"], first["jobUID"])


def test_a_suspended_cycle_holds_its_job_back_in_the_queue_and_lets_it_in_again(site: Site) -> None:
    first = site.begin(defaults={"queueName": "team-a"})
    serve_workloads(site.namespace.client)
    kueue = Kueue(site.namespace, first["job"])
    kueue.admits({})
    site.running(first["job"])
    site.until(lambda stage: stage["state"] == "Running", "it runs")

    site.suspend(to=True)
    assert site.pass_()["reason"] == "Suspended"
    assert not kueue.active()
    kueue.evicts("The workload is deactivated")
    assert site.pass_()["state"] == "Pending"
    job = site.namespace.get("batch/v1", "jobs", first["job"])
    assert job is not None
    assert job["spec"]["suspend"] is True

    site.suspend(to=False)
    resumed = site.pass_()
    assert kueue.active()
    job = site.namespace.get("batch/v1", "jobs", first["job"])
    assert job is not None
    assert job["spec"]["suspend"] is True, "when it runs is for Kueue to say"
    assert (resumed["job"], resumed["attempt"]) == (first["job"], 0)
    kueue.admits({})
    site.until(lambda stage: stage["state"] == "Running", "it runs again")


def started(name: str, config: StageConfig, **pods: object) -> StartJob:
    return StartJob(name, "f" * 64, config, 0, PodDefaults(image="sleeper", **pods))


def several(uid: str) -> tuple[StartJob, StartJob, StartJob]:
    """A Job of each layout: one pod, shards, a gang."""
    files = stage_config(inputs={}, output="file:///tmp/out", owner_uid=uid)
    shards = SampleParameters.from_wire({"sampling": {"shards": 2}})
    nodes = TrainParameters.from_wire({"training": {"nodes": 2}})
    return (
        started("one", files),
        started("shards", files.model_copy(update={"parameters": shards})),
        started("gang", files.model_copy(update={"stage": Stage.TRAIN, "parameters": nodes}), **EVERYTHING),
    )


EVERYTHING: dict[str, object] = {
    "retries": 3,
    "sharedMemory": "1Gi",
    "podLabels": {"team": "a"},
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "Exists"}]}
                ]
            }
        },
        "podAntiAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {
                    "weight": 1,
                    "podAffinityTerm": {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"app.kubernetes.io/component": "train"}},
                    },
                }
            ]
        },
    },
}


def test_jobs_of_every_layout_are_what_they_should_be_and_end_with_their_cycle(site: Site) -> None:
    namespace = site.namespace
    namespace.apply(cycle("support", namespace.name))
    owner = namespace.get("alignment.dev/v1alpha1", "alignmentcycles", "support")
    assert owner is not None
    starts = several(owner["metadata"]["uid"])
    for start in (*starts, starts[-1]):  # the last a second time: what is there is taken over
        site.apply(start)
    for name, pods in (("one", 1), ("shards", 2), ("gang", 2)):
        _until_running(namespace, name, pods)
    shards, gang = (namespace.get("batch/v1", "jobs", name) for name in ("shards", "gang"))
    assert shards is not None
    assert gang is not None
    assert (shards["spec"]["backoffLimitPerIndex"], shards["spec"]["maxFailedIndexes"]) == (2, 0)
    assert (gang["spec"]["backoffLimit"], gang["spec"]["podReplacementPolicy"]) == (0, "Failed")
    (service,) = namespace.list("v1", "services")
    assert service["metadata"]["name"] == names.service_name("support", owner["metadata"]["uid"])
    pod = namespace.pods_of("gang")[0]
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    coordinator = pod["spec"]["containers"][0]["args"][-1]
    assert coordinator == f"gang-0.{service['metadata']['name']}:29500"
    recommended = {
        key.partition("/")[2] for key in pod["metadata"]["labels"] if key.startswith("app.kubernetes.io/")
    }
    assert recommended == {"name", "instance", "version", "component", "part-of", "managed-by"}
    assert "finalizers" not in owner["metadata"]

    namespace.kubectl("delete", "acyc", "support", "--wait=false")
    for version, kind in (("batch/v1", "jobs"), ("v1", "pods"), ("v1", "services")):
        _until_gone(namespace, version, kind)


def _until_running(namespace: Namespace, job: str, pods: int) -> None:
    def all_run() -> bool:
        return [pod["status"].get("phase") for pod in namespace.pods_of(job)] == ["Running"] * pods

    wait_until(all_run, f"all pods of {job} run", 60)


def _until_gone(namespace: Namespace, version: str, kind: str) -> None:
    wait_until(lambda: not namespace.list(version, kind), f"all {kind} are gone", 60)

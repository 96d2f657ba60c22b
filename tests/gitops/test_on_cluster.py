"""GitOps on a real API server: nothing is written for what was applied before, and others' fields are left alone."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from alignment_api import digests
from alignment_operator.api import CONFIG_MAP, CONTROLLER_REVISION, CYCLE, DATASET, JOB, Manifest
from alignment_operator.cluster import Cluster
from alignment_operator.reconcile import one_pass
from tests.cluster.client import Namespace
from tests.gitops.argocd import EXAMPLES, health
from tests.operator.edges import SETTINGS, OnApi, Recorder, cycle, now
from tests.operator.test_jobs_on_cluster import Site, site  # noqa: F401

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

TARGETS = {"targets": [{"configMap": {"name": "served", "key": "uri", "digestKey": "digest"}}]}
WRITTEN = {"uri": "pvc://models/m1", "digest": digests.of_bytes(b"m1")}


def apply_as(namespace: Namespace, manager: str, *manifests: Manifest) -> None:
    """As Flux, and Argo CD with ServerSideApply=true, do it."""
    text = yaml.safe_dump_all(manifests)
    namespace.kubectl("apply", "--server-side", f"--field-manager={manager}", "-f", "-", stdin=text)


def pass_(on_api: OnApi[Any], namespace: Namespace, name: str = "support") -> list[str]:
    """What passes write until one writes nothing."""

    async def work(api: Cluster) -> list[str]:
        recorder = Recorder(api)
        for _ in range(10):
            before = len(recorder.writes)
            await one_pass(recorder, CYCLE, namespace.name, name, now(), SETTINGS)
            if len(recorder.writes) == before:
                return recorder.writes
        raise AssertionError(f"it never came to rest: {recorder.writes}")

    written: list[str] = on_api(work)
    return written


def live(namespace: Namespace, name: str = "support") -> Manifest:
    found = namespace.get(CYCLE.api_version, CYCLE.plural, name)
    assert found is not None
    return found


def condition(namespace: Namespace, type_: str) -> Manifest:
    return next(row for row in live(namespace)["status"]["conditions"] if row["type"] == type_)


def versions(namespace: Namespace) -> dict[str, str]:
    kinds = (CYCLE, DATASET, JOB, CONFIG_MAP, CONTROLLER_REVISION)
    return {
        f"{kind.kind}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for kind in kinds
        for item in namespace.list(kind.api_version, kind.plural)
    }


def test_the_examples_applied_again_write_nothing(on_api: OnApi[Any], namespace: Namespace) -> None:
    folder = EXAMPLES / "support-assistant"
    manifests = [yaml.safe_load((folder / name).read_text()) for name in ("dataset.yaml", "cycle.yaml")]
    apply_as(namespace, "kustomize-controller", *manifests)
    assert pass_(on_api, namespace, "support-assistant") == ["status AlignmentCycle support-assistant"]
    before, fields = versions(namespace), live(namespace, "support-assistant")["metadata"]["managedFields"]
    apply_as(namespace, "kustomize-controller", *manifests)
    assert pass_(on_api, namespace, "support-assistant") == []
    assert versions(namespace) == before
    assert live(namespace, "support-assistant")["metadata"]["managedFields"] == fields
    managers = {(entry["manager"], entry.get("subresource")) for entry in fields}
    assert managers == {("kustomize-controller", None), ("alignment-operator", "status")}


def test_a_cycle_is_ready_for_kubectl_wait_and_argo_cd_at_once(
    on_api: OnApi[Any], namespace: Namespace
) -> None:
    manifest = cycle("support", namespace.name, trigger={"schedule": "0 3 * * 1"})
    del manifest["metadata"]["annotations"]
    namespace.apply(manifest)
    assert health(live(namespace))[0] == "Progressing"
    pass_(on_api, namespace)
    namespace.kubectl("wait", "--for=condition=Ready", "acyc/support", "--timeout=5s")
    namespace.kubectl("wait", "--for=condition=Reconciling=False", "acyc/support", "--timeout=5s")
    assert health(live(namespace))[0] == "Healthy"
    row = namespace.kubectl("get", "acyc", "support").splitlines()[1].split()
    assert row[-2] == live(namespace)["status"]["nextRunAt"]


@pytest.mark.parametrize("field", ["training", "history"])
def test_an_edit_while_an_iteration_runs_is_said_to_wait_unless_it_is_live(
    on_api: OnApi[Any], namespace: Namespace, field: str
) -> None:
    namespace.apply(cycle("support", namespace.name))
    pass_(on_api, namespace)
    edited = {"training": {"beta": 0.3}} if field == "training" else {"history": {"iterations": 3}}
    namespace.apply(cycle("support", namespace.name, **edited))
    pass_(on_api, namespace)
    said = condition(namespace, "Iterating")
    assert said["observedGeneration"] == 2
    assert ("of generation 2 applies from the next iteration" in said["message"]) is (field == "training")


def test_a_schedule_that_only_the_parser_refuses_is_told(on_api: OnApi[Any], namespace: Namespace) -> None:
    namespace.apply(cycle("support", namespace.name, trigger={"schedule": "0 0 30 2 *"}))
    pass_(on_api, namespace)
    stalled = condition(namespace, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    assert "Bad day-of-month" in stalled["message"]
    assert health(live(namespace))[0] == "Degraded"


def promoted(namespace: Namespace) -> None:
    """A status that says so; which worker made the model does not matter here."""
    manifest = cycle("support", namespace.name, promotion=TARGETS)
    del manifest["metadata"]["annotations"]
    namespace.apply(manifest)
    at = {
        "iteration": 1,
        "uri": "pvc://models/m1",
        "digest": digests.of_bytes(b"m1"),
        "at": "2026-11-23T03:00:00Z",
    }
    namespace.client.patch(
        namespace.path(CYCLE.api_version, CYCLE.plural, "support") + "/status", {"status": {"promoted": at}}
    )


def served(namespace: Namespace) -> Manifest:
    found = namespace.get(CONFIG_MAP.api_version, CONFIG_MAP.plural, "served")
    assert found is not None
    return found


@pytest.mark.parametrize("key", WRITTEN)
def test_a_field_that_another_manager_takes_back_twice_is_left_to_it_and_told(
    on_api: OnApi[Any], namespace: Namespace, key: str
) -> None:
    promoted(namespace)
    pass_(on_api, namespace)
    theirs: Manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "served", "labels": {"team": "a"}},
        "data": {key: "theirs", "theirs": "kept"},
    }
    text = yaml.safe_dump(theirs)
    taking = ("apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "-f", "-")
    namespace.kubectl(*taking, stdin=text)
    assert "apply ConfigMap served" in pass_(on_api, namespace)
    assert served(namespace)["data"] == {**WRITTEN, "theirs": "kept"}
    assert served(namespace)["metadata"]["labels"]["team"] == "a"
    assert condition(namespace, "TargetsSynced")["status"] == "True"
    namespace.kubectl(*taking, stdin=text)
    assert "apply ConfigMap served" not in pass_(on_api, namespace)
    assert served(namespace)["data"][key] == "theirs"
    told = condition(namespace, "TargetsSynced")
    assert (told["status"], told["reason"]) == ("False", "TakenBack")
    assert "ConfigMap served by argocd-controller" in told["message"]
    assert pass_(on_api, namespace) == []
    del theirs["data"][key]
    apply_as(namespace, "argocd-controller", theirs)
    assert "apply ConfigMap served" in pass_(on_api, namespace)
    assert served(namespace)["data"] == {**WRITTEN, "theirs": "kept"}


def test_a_write_that_was_refused_was_not_taken_back(on_api: OnApi[Any], namespace: Namespace) -> None:
    frozen = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "served"}, "data": {"uri": "x"}}
    namespace.apply({**frozen, "immutable": True})
    promoted(namespace)

    async def work(api: Cluster) -> None:
        for _ in range(4):
            await one_pass(api, CYCLE, namespace.name, "support", now(), SETTINGS)

    on_api(work)
    assert condition(namespace, "TargetsSynced")["reason"] == "Refused"
    assert "targets" not in live(namespace)["status"] or live(namespace)["status"]["targets"] == []


def edit(site: Site, **spec: object) -> None:  # noqa: F811
    patch = yaml.safe_dump({"spec": spec})
    site.namespace.kubectl("patch", "acyc", "support", "--type=merge", "--patch", patch)


def test_a_suspended_jobs_pod_ends_without_a_failure_and_another_goes_on(site: Site) -> None:  # noqa: F811
    first = site.begin(defaults={"retries": 0})
    pod = site.running(first["job"])
    site.until(lambda stage: stage["state"] == "Running", "its worker runs")
    edit(site, suspend=True)
    site.until(lambda stage: stage.get("reason") == "Suspended", "it is suspended")
    site.namespace.kubectl(
        "delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", "--ignore-not-found"
    )

    def at_rest(job: Manifest) -> bool:
        return not job["status"].get("active") and not job["status"].get("terminating")

    job = site.namespace.wait("batch/v1", "jobs", first["job"], at_rest, "its pods are gone", 60)
    assert job["spec"]["suspend"] is True
    assert site.namespace.pods_of(first["job"]) == []
    site.namespace.kubectl("wait", "--for=condition=Suspended", "acyc/support", "--timeout=5s")
    site.pass_()
    before = live(site.namespace)["metadata"]["resourceVersion"]
    for _ in range(3):
        site.pass_()
    assert live(site.namespace)["metadata"]["resourceVersion"] == before
    edit(site, suspend=False)
    stage = site.until(lambda stage: stage["state"] == "Running", "it runs again")
    again = site.running(first["job"])
    assert again["metadata"]["uid"] != pod["metadata"]["uid"]
    assert (stage["job"], stage["jobUID"]) == (first["job"], first["jobUID"])
    assert (stage["attempt"], stage["disruptions"], stage["retries"]) == (0, 0, 0)
    resumed = site.namespace.get("batch/v1", "jobs", first["job"])
    assert resumed is not None
    assert not resumed["status"].get("failed")

"""`kubectl align report` on a real control plane: a Job of the user's own reads the store of a cycle."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_operator.observed import Owner
from alignment_operator.render.revision import render_revision
from tests.cli.command import ended
from tests.cluster.bed import Bed
from tests.cluster.client import Client, Namespace
from tests.operator.plan_world import World, cycle_spec
from tests.report import refreshed
from tests.report.markup import Page
from tests.report.stored import CLAIM, Stored
from tests.worker import tiny

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

CYCLES = ("alignment.dev/v1alpha1", "alignmentcycles")
IMAGE = "ghcr.io/alignment-dev/worker:0.1.0"
On = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kubectl_align(cluster: Client, tmp_path: Path) -> On:
    def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return ended(
            tmp_path,
            *arguments,
            kubeconfig=cluster.kubeconfig,
            called="/usr/local/bin/kubectl-align",
            environment=environment,
            timeout=400,
        )

    return run


def claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }


@pytest.fixture
def two(namespace: Namespace, bed: Bed, crds: None, tmp_path: Path) -> Namespace:
    """A promotion and a refusal of a cycle, whose operator is not running, in a namespace with its store."""
    spec = cycle_spec(defaults={"image": IMAGE, "resources": {"requests": {"cpu": "10m"}}})
    manifest = {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "AlignmentCycle",
        "metadata": {"name": "support"},
        "spec": spec.to_wire(),
    }
    namespace.apply(claim(CLAIM), manifest)
    cycle = namespace.get(*CYCLES, "support")
    assert cycle is not None
    uid = cycle["metadata"]["uid"]
    stored = Stored(tmp_path / "store", World(spec=spec, annotations={"alignment.dev/run": "1"})).settle()
    stored.world.annotations["alignment.dev/run"] = "2"
    stored.world.quality = "hacked"
    stored.settle()
    bound = namespace.wait("v1", "persistentvolumeclaims", CLAIM, is_bound, "the claim has a folder")
    (folder,) = (bed.folder / "node" / "claims" / namespace.name).glob(f"{CLAIM}-{bound['metadata']['uid']}")
    here = folder / "cycles" / namespace.name / "support" / uid
    here.mkdir(parents=True)
    shutil.move(stored.iterations, here / "iterations")
    namespace.client.patch(namespace.path(*CYCLES, "support") + "/status", {"status": stored.world.status})
    owner = Owner(namespace.name, "support", uid, 1, "1", {})
    for frozen in stored.world.frozen.values():
        namespace.create("controllerrevisions", render_revision(owner, frozen))
    return namespace


def is_bound(item: dict[str, Any]) -> bool:
    return bool(item.get("status", {}).get("phase") == "Bound")


@pytest.mark.timeout(900)
def test_the_last_and_an_earlier_iteration_are_read_by_jobs_that_are_gone_afterwards(
    kubectl_align: On, two: Namespace, tmp_path: Path
) -> None:
    done = kubectl_align("report", "support", "-n", two.name)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "support-2.html\n"
    page = Page((tmp_path / "support-2.html").read_text())
    assert page.faults == []
    assert "refused by rewardHacking" in page.text
    assert "after 12 comparisons" in page.text
    assert f"kubectl align reject support -n {two.name}" not in page.text, "it is decided"

    earlier = kubectl_align("report", "support", "-n", two.name, "--iteration", "1", "-o", "first.html")
    assert earlier.returncode == 0, earlier.stderr
    assert "The candidate is promoted" in Page((tmp_path / "first.html").read_text()).text

    compared = kubectl_align("compare", "support", "1", "2", "-n", two.name)
    assert ["outcome", "Promoted", "Rejected"] in [line.split() for line in compared.stdout.splitlines()]
    assert not [job for job in two.list("batch/v1", "jobs") if "deletionTimestamp" not in job["metadata"]]


@pytest.mark.timeout(600)
def test_who_may_not_make_jobs_is_told_so_in_a_line(
    kubectl_align: On, two: Namespace, cluster: Client, tmp_path: Path
) -> None:
    two.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "reader"},
            "rules": [
                {"apiGroups": ["alignment.dev"], "resources": ["*"], "verbs": ["get", "list"]},
                {"apiGroups": ["apps"], "resources": ["controllerrevisions"], "verbs": ["list"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "User", "name": "erin", "apiGroup": "rbac.authorization.k8s.io"}],
        },
    )
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"]["as"] = "erin"
    file = tmp_path / "erin"
    file.write_text(yaml.safe_dump(config))
    done = kubectl_align("report", "support", "-n", two.name, environment={"KUBECONFIG": str(file)})
    assert done.returncode == 1
    assert 'User "erin" cannot create resource "jobs"' in done.stderr.splitlines()[-1]
    explained = kubectl_align(
        "explain", "support", "-n", two.name, "--iteration", "1", environment={"KUBECONFIG": str(file)}
    )
    assert explained.returncode == 0
    assert "the store could not be read" in explained.stderr
    assert "support, iteration 1: Promoted" in explained.stdout


@pytest.mark.timeout(600)
def test_an_image_that_is_not_there_is_told_in_kubelets_words(kubectl_align: On, two: Namespace) -> None:
    revision = two.get("apps/v1", "controllerrevisions", "support-2")
    assert revision is not None
    path = two.path("apps/v1", "controllerrevisions", "support-2")
    two.client.delete(path)
    revision["data"]["spec"]["defaults"]["image"] = "registry.example.com/nothing:1"
    metadata = {key: revision["metadata"][key] for key in ("name", "labels", "ownerReferences")}
    two.create("controllerrevisions", {**revision, "metadata": metadata})
    done = kubectl_align("report", "support", "-n", two.name, "--timeout", "5")
    assert done.returncode == 1
    assert "did not end within 5 s" in done.stderr
    assert "Image" in done.stderr.splitlines()[-1] or "pull" in done.stderr.splitlines()[-1]


@pytest.mark.timeout(600)
def test_revisions_of_a_dataset_are_compared_and_searched_by_a_job_too(
    kubectl_align: On, namespace: Namespace, bed: Bed, crds: None, tmp_path: Path
) -> None:
    spec = {
        "store": {"uri": f"pvc://{CLAIM}/datasets"},
        "sources": [{"name": "a", "files": {"uri": f"pvc://{CLAIM}/a.jsonl"}}],
        "curation": {"embedding": {"model": f"pvc://{CLAIM}/embedding"}},
        "defaults": {"image": IMAGE, "resources": {"requests": {"cpu": "10m"}}},
    }
    kind = {"apiVersion": "alignment.dev/v1alpha1", "kind": "PreferenceDataset"}
    namespace.apply(claim(CLAIM), {**kind, "metadata": {"name": refreshed.NAME}, "spec": spec})
    bound = namespace.wait("v1", "persistentvolumeclaims", CLAIM, is_bound, "the claim has a folder")
    (folder,) = (bed.folder / "node" / "claims" / namespace.name).glob(f"{CLAIM}-{bound['metadata']['uid']}")
    made = refreshed.revisions(tmp_path, tiny.llama(folder / "embedding"))
    (folder / "datasets").mkdir()
    shutil.move(tmp_path / "revisions", folder / "datasets" / "revisions")
    status = refreshed.status(made, f"pvc://{CLAIM}/datasets/revisions")
    path = namespace.path("alignment.dev/v1alpha1", "preferencedatasets", refreshed.NAME) + "/status"
    namespace.client.patch(path, {"status": status})
    done = kubectl_align("dataset", "diff", "1", "2", "-n", namespace.name)
    assert done.returncode == 0, done.stderr
    assert ["a", "3", "3", "+1", "−1"] in refreshed.told(done.stdout)
    found = kubectl_align("search", "p3", "--rows", "1", "-n", namespace.name)
    assert found.returncode == 0, found.stderr
    assert refreshed.told(found.stdout)[1][:4] == ["100.0", "%", "4", "a:"]
    assert not [
        job for job in namespace.list("batch/v1", "jobs") if "deletionTimestamp" not in job["metadata"]
    ]

"""status, history and the verbs on a real API server, whose operator is not running."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import ended
from tests.cli.manifests import CYCLE, DATASET
from tests.cluster.client import Client, Namespace

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

CYCLES = ("alignment.dev/v1alpha1", "alignmentcycles")
EVIDENCE = "sha256:" + "4be1" * 16
HELD = {
    "conditions": [
        {
            "type": "WaitingForApproval",
            "status": "True",
            "reason": "Inconclusive",
            "message": "a person decides",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-11-23T09:00:00Z",
        }
    ],
    "iteration": {
        "number": 7,
        "trigger": "Manual",
        "generation": 1,
        "revision": "assistant-7",
        "startedAt": "2026-11-23T03:00:00Z",
        "evidenceDigest": EVIDENCE,
    },
    "history": [
        {"number": 6, "outcome": "Rejected", "reason": "LengthDrift", "finishedAt": "2026-11-16T05:00:00Z"}
    ],
}
On = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def on_cluster(cluster: Client, crds: None, tmp_path: Path) -> On:
    """Runs alignctl with the cluster's credentials, in a folder where nothing was run."""

    def run(
        *arguments: str, called: str = "alignctl", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return ended(
            tmp_path, *arguments, kubeconfig=cluster.kubeconfig, called=called, environment=environment
        )

    return run


def acting_as(cluster: Client, folder: Path, **fields: object) -> dict[str, str]:
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"] |= fields
    file = folder / "acting-as"
    file.write_text(yaml.safe_dump(config))
    return {"KUBECONFIG": str(file)}


@pytest.fixture
def held(namespace: Namespace, crds: None) -> Namespace:
    """A namespace with a cycle that waits for a person."""
    namespace.apply(yaml.safe_load(CYCLE), yaml.safe_load(DATASET))
    namespace.client.patch(namespace.path(*CYCLES, "assistant") + "/status", {"status": HELD})
    return namespace


def annotations_of(namespace: Namespace) -> dict[str, Any]:
    cycle = namespace.get(*CYCLES, "assistant")
    assert cycle is not None
    found: dict[str, Any] = cycle["metadata"].get("annotations", {})
    return found


def test_status_and_history_read_the_cluster(on_cluster: On, held: Namespace) -> None:
    status = on_cluster("status", "-n", held.name)
    assert status.returncode == 0, status.stderr
    assert f"# cluster, namespace {held.name}" in status.stderr
    rows = [line.split() for line in status.stdout.splitlines()]
    assert ["assistant", "Unknown", "7"] in [row[:3] for row in rows]
    assert ["feedback", "Unknown"] in [row[:2] for row in rows]
    history = on_cluster("history", "assistant", "-n", held.name)
    assert "assistant  6          Rejected  LengthDrift" in history.stdout


def test_an_approval_names_the_evidence(on_cluster: On, held: Namespace) -> None:
    done = on_cluster("approve", "assistant", "-n", held.name)
    assert done.returncode == 0, done.stderr
    assert annotations_of(held)["alignment.dev/approve"] == f"7@{EVIDENCE}"


@pytest.mark.parametrize("verb", ["reject", "cancel"])
def test_the_other_verbs_name_the_iteration(on_cluster: On, held: Namespace, verb: str) -> None:
    done = on_cluster(verb, "assistant", "-n", held.name)
    assert done.returncode == 0, done.stderr
    assert annotations_of(held)[f"alignment.dev/{verb}"] == "7"


def test_a_cycle_that_no_operator_has_looked_at_says_what_to_look_for(
    on_cluster: On, crds: None, namespace: Namespace
) -> None:
    namespace.apply(yaml.safe_load(CYCLE))
    said = on_cluster("status", "assistant", "-n", namespace.name).stdout
    assert "no operator has looked at it. Is one running" in said
    assert f"is {namespace.name} among its watchNamespaces?" in said


def test_it_acts_as_whom_the_kubeconfig_says(
    on_cluster: On, cluster: Client, held: Namespace, tmp_path: Path
) -> None:
    """And not as the one behind, who may do more."""
    erin = acting_as(cluster, tmp_path, **{"as": "erin"})
    for arguments in (("status",), ("approve", "assistant")):
        done = on_cluster(*arguments, "-n", held.name, environment=erin)
        assert done.returncode == 1
        assert 'User "erin" cannot' in done.stderr
    assert "alignment.dev/approve" not in annotations_of(held)


def test_it_acts_as_nobody_rather_than_as_somebody_else(
    on_cluster: On, cluster: Client, held: Namespace, tmp_path: Path
) -> None:
    erin = acting_as(cluster, tmp_path, **{"as": "erin", "as-groups": ["approvers"]})
    done = on_cluster("status", "-n", held.name, environment=erin)
    assert done.returncode == 1
    assert "has as-groups" in done.stderr


def test_as_a_plugin_of_kubectl_it_means_the_cluster_even_beside_a_folder(
    on_cluster: On, held: Namespace, tmp_path: Path
) -> None:
    (tmp_path / ".alignment" / "objects").mkdir(parents=True)
    assert "# folder .alignment" in on_cluster("status").stderr
    assert (
        "# cluster, namespace default" in on_cluster("status", called="/usr/local/bin/kubectl-align").stderr
    )


def test_a_name_that_is_not_there_is_told_with_those_that_are(on_cluster: On, held: Namespace) -> None:
    done = on_cluster("approve", "nobody", "-n", held.name)
    assert done.returncode == 1
    assert f"no AlignmentCycle nobody in cluster, namespace {held.name}; there: assistant" in done.stderr

"""`kubectl align noise` on a real control plane, with the operator running: a Job of the user's own, and no trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.command import PROGRAM, ended
from tests.cluster.bed import Bed
from tests.cluster.client import Namespace
from tests.cluster.manifests import claim
from tests.cluster.processes import Child
from tests.cluster.waiting import wait_until
from tests.e2e.test_cluster_quickstart import CYCLES, EXAMPLE, MINUTES, operator, status

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

__all__ = ["operator"]  # the fixture

NAME = "quickstart"
ASSETS, STORE = "quickstart-assets", "quickstart-store"
CUT = {"gold.jsonl": 45, "heldout.jsonl": 15}  # of so many rows one is kept
CALLED = "/usr/local/bin/kubectl-align"


@pytest.fixture
def claims(namespace: Namespace, bed: Bed, operator: Child) -> Path:
    """The folder of all claims. In it the quickstart's files, cut; its cycle is there, and the operator runs."""
    namespace.apply(claim(ASSETS), claim(STORE))
    for name in (ASSETS, STORE):
        namespace.wait("v1", "persistentvolumeclaims", name, is_bound, "the claim has a folder")
    folder: Path = bed.folder / "node" / "claims" / namespace.name
    (assets,) = folder.glob(f"{ASSETS}-*")
    shutil.copytree(EXAMPLE / ASSETS, assets, dirs_exist_ok=True)
    for name, step in CUT.items():
        rows = (assets / name).read_text().splitlines(keepends=True)
        (assets / name).write_text("".join(rows[::step]))
    cycle = yaml.safe_load((EXAMPLE / "cycle.yaml").read_text())
    del cycle["metadata"]["annotations"]
    cycle["spec"]["defaults"] = {"image": "ghcr.io/alignment-dev/worker:0.1.0"}
    cycle["spec"]["evaluation"]["comparison"]["minComparisons"] = 20
    for asked in ("goldSet", "heldOutPrompts"):
        cycle["spec"]["evaluation"][asked]["maxNewTokens"] = 16
    namespace.apply(cycle)
    namespace.wait(*CYCLES, NAME, is_observed, "the operator has seen it", 3 * MINUTES)
    return folder


def is_bound(item: dict[str, Any]) -> bool:
    return bool(item.get("status", {}).get("phase") == "Bound")


def is_observed(cycle: dict[str, Any]) -> bool:
    return bool(cycle.get("status", {}).get("observedGeneration") == cycle["metadata"]["generation"])


def jobs(namespace: Namespace) -> list[str]:
    found = namespace.list("batch/v1", "jobs")
    return [job["metadata"]["name"] for job in found if "deletionTimestamp" not in job["metadata"]]


def noise(namespace: Namespace, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = ("noise", NAME, "-n", namespace.name, *arguments)
    return ended(folder, *words, kubeconfig=namespace.client.kubeconfig, called=CALLED, timeout=300)


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.timeout(600)
def test_two_equal_models_are_measured_and_nothing_is_left(
    namespace: Namespace, claims: Path, tmp_path: Path
) -> None:
    before, stored = status(namespace, NAME), files(claims)
    done = noise(namespace, tmp_path, "--seed", "1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"{NAME}: pvc://{ASSETS}/policy against itself, seed 1"
    verdicts = {
        words[0]: words[1] for line in lines[3:] if line[:1].isalpha() and len(words := line.split()) == 2
    }
    assert set(verdicts) == {"goldSet", "lengthDrift", "collapse", "winRate", "rewardHacking"}
    assert "Error" not in verdicts.values()
    assert "No gate took the noise for more." in lines
    assert "# evaluate and compare, by Job quickstart-noise-" in done.stderr
    assert jobs(namespace) == []
    assert status(namespace, NAME) == before
    assert files(claims) == stored


@pytest.mark.timeout(600)
def test_a_stage_that_fails_and_an_interruption_leave_no_job_either(
    namespace: Namespace, claims: Path, tmp_path: Path
) -> None:
    (assets,) = claims.glob(f"{ASSETS}-*")
    (assets / "gold.jsonl").unlink()
    failed = noise(namespace, tmp_path)
    assert (failed.returncode, failed.stdout) == (1, "")
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("error: pod quickstart-noise-")
    assert "ended with exit code 63: stage evaluate failed: InputMissing: inputs.goldSet: " in last
    assert jobs(namespace) == []

    named = f"import sys; sys.argv[0] = {CALLED!r}; "
    running = subprocess.Popen(
        [sys.executable, "-c", named + PROGRAM, "noise", NAME, "-n", namespace.name],
        env={**os.environ, "KUBECONFIG": str(namespace.client.kubeconfig)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: jobs(namespace) or None, "the Job is made", 60)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.splitlines()[-1].startswith("error: stopped, and nothing is kept")
    assert jobs(namespace) == []

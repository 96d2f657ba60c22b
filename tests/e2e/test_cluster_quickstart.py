"""The quickstart on a real API server, as a user does it: every stage a Job with its own pod.

The operator is killed in every phase of the promoted iteration and started again; meanwhile each stage of the refused
one has its worker killed. What is promoted is signed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from alignment_worker import signatures
from tests.cluster.api import Json
from tests.cluster.bed import Bed
from tests.cluster.client import Namespace
from tests.cluster.processes import Child
from tests.cluster.waiting import wait_until
from tests.worker import keys

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "quickstart"
CYCLES = ("alignment.dev/v1alpha1", "alignmentcycles")
STAGES = ["sample", "judge", "train", "evaluate", "compare", "promote"]
MINUTES = 60.0


def operator_of(namespace: Namespace, folder: Path) -> Child:
    """The operator's process, not started yet, for this namespace alone."""
    command = [str(Path(sys.prefix) / "bin" / "alignment-operator"), "run", "-n", namespace.name]
    command += ["--health-port", "0", "--metrics-port", "0"]
    env = {"KUBECONFIG": str(namespace.client.kubeconfig), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    env["PYTHONPATH"] = str(ROOT / "operator")  # an environment may have been made for another working copy
    return Child("operator", command, folder / "operator.log", env)


@pytest.fixture
def operator(namespace: Namespace, crds: None, tmp_path: Path) -> Iterator[Child]:
    child = operator_of(namespace, tmp_path)
    child.start()
    yield child
    child.stop()


def status(namespace: Namespace, name: str) -> Json:
    cycle = namespace.get(*CYCLES, name)
    assert cycle is not None
    found: Json = cycle.get("status", {})
    return found


def until(namespace: Namespace, name: str, holds: Callable[[Json], object], what: str) -> Json:
    def look(cycle: Json) -> bool:
        found = cycle.get("status", {})
        iteration = found.get("iteration", {})
        assert iteration.get("outcome") != "Failed", iteration["message"]
        return bool(holds(found))

    seen: Json = namespace.wait(*CYCLES, name, look, what, 15 * MINUTES)["status"]
    return seen


def stage(cycle_status: Json, name: str) -> Json:
    entries = cycle_status.get("iteration", {}).get("stages", [])
    return next((entry for entry in entries if entry["name"] == name), {})


def job_of(namespace: Namespace, cycle: str, name: str) -> str:
    """The Job of a stage, as soon as status names it."""
    begun = until(namespace, cycle, lambda seen: stage(seen, name).get("job"), f"stage {name} begins")
    job: str = stage(begun, name)["job"]
    return job


def running_pod(namespace: Namespace, job: str) -> str:
    """The pod of a Job, as soon as it runs."""

    def look() -> str | None:
        pods = namespace.list("v1", "pods", f"batch.kubernetes.io/job-name={job}")
        return next((pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"), None)

    return wait_until(look, f"Job {job} runs", 5 * MINUTES)


def kill_workers(namespace: Namespace, cycle: str, stages: Sequence[str]) -> None:
    for name in stages:
        pod = running_pod(namespace, job_of(namespace, cycle, name))
        namespace.kubectl("annotate", "pod", pod, "test-bed/oom-kill=worker")


@pytest.mark.timeout(1800)
def test_both_verdicts_of_the_quickstart_with_operator_and_workers_killed_in_every_phase(
    namespace: Namespace, operator: Child, bed: Bed, tmp_path: Path
) -> None:
    key = keys.pair(tmp_path / "key.pem")
    namespace.kubectl("create", "secret", "generic", "signing", f"--from-file={key.private}")
    signed = yaml.safe_load((EXAMPLE / "cycle.yaml").read_text())
    signed["spec"]["promotion"]["signature"] = keys.signature(key, unsigned="Allow").to_wire()
    namespace.kubectl(
        "apply", "-f", str(EXAMPLE / "assets.yaml"), "-f", str(EXAMPLE / "cycle-length-biased.yaml")
    )
    namespace.apply(signed)
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_workers, namespace, "length-biased", STAGES[:-1])
        for name in STAGES:
            job_of(namespace, "quickstart", name)
            operator.kill()
            operator.start()
        killing.result()

    namespace.kubectl("wait", "--for=condition=Promoted", "--timeout=60s", "acyc/quickstart")
    promoted = until(namespace, "quickstart", targets_synced, "the target follows")
    assert [entry["name"] for entry in promoted["iteration"]["stages"]] == STAGES
    assert promoted["iteration"]["outcome"] == "Promoted"
    assert {gate["verdict"] for gate in promoted["iteration"]["gates"]} == {"Passed"}
    assert promoted["promoted"]["digest"] == promoted["iteration"]["candidate"]["digest"]

    served = namespace.get("v1", "configmaps", "quickstart-model")
    assert served is not None
    assert served["data"]["uri"] == promoted["promoted"]["uri"]
    assert served["metadata"]["annotations"]["alignment.dev/digest"] == promoted["promoted"]["digest"]

    (store,) = (bed.folder / "node" / "claims" / namespace.name).glob("quickstart-store-*")
    model = store / promoted["promoted"]["uri"].removeprefix("pvc://quickstart-store/")
    signatures.verify(model, [key.public])

    refused = until(
        namespace, "length-biased", lambda seen: seen.get("iteration", {}).get("outcome"), "it is decided"
    )
    assert refused["iteration"]["outcome"] == "Rejected"
    verdicts = {gate["name"]: gate["verdict"] for gate in refused["iteration"]["gates"]}
    assert verdicts["lengthDrift"] == verdicts["rewardHacking"] == "Failed"
    assert "promoted" not in refused
    assert all(entry["attempt"] == 0 for entry in refused["iteration"]["stages"]), "retries are the Job's own"
    assert namespace.get("v1", "configmaps", "length-biased-model") is None

    jobs = namespace.list("batch/v1", "jobs", "alignment.dev/stage")
    assert len(jobs) == len(STAGES) + len(STAGES) - 1, "one Job a stage, whatever was killed"
    assert_table(namespace.kubectl("get", "acyc"))


def targets_synced(seen: Json) -> bool:
    return any(
        entry["type"] == "TargetsSynced" and entry["status"] == "True" and entry["reason"] == "Synced"
        for entry in seen.get("conditions", [])
    )


def assert_table(table: str) -> None:
    """What `kubectl get acyc` prints is what a person reads first."""
    header, *rows = [line.split() for line in table.splitlines()]
    assert header[:7] == ["NAME", "READY", "STATUS", "ITERATION", "STAGE", "OUTCOME", "PROMOTED"]
    assert header[7:] == ["NEXT", "RUN", "AGE"]
    by_name = {row[0]: row for row in rows}
    assert by_name["quickstart"][1:7] == ["True", "Idle", "1", "promote", "Promoted", "1"]
    assert by_name["length-biased"][1:6] == ["True", "Idle", "1", "compare", "Rejected"]

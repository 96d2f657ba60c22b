"""Deployments, deletion, lost nodes, restarts and the end of the test bed."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.api import Json
from tests.cluster.bed import REPOSITORY, Bed
from tests.cluster.client import Client, Namespace, has_condition, temporary_namespace
from tests.cluster.manifests import job, leaving_lost_nodes, pod, pod_template
from tests.cluster.processes import free_ports
from tests.cluster.waiting import wait_until

pytest_plugins = ["tests.cluster.fixtures"]


def _phase(name: str) -> Callable[[Json], bool]:
    return lambda each: each.get("status", {}).get("phase") == name


def _deployment(name: str, template: Json, **spec: object) -> Json:
    labels = {"app": name}
    body = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, **template},
        **spec,
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": body}


def _processes_with(text: str) -> list[int]:
    """Processes whose command line contains a text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def test_a_deployment_becomes_available_when_its_probe_passes(namespace: Namespace) -> None:
    (port,) = free_ports(1)
    container: Json = {
        "image": "python",
        "command": [
            "python",
            "-m",
            "http.server",
            "$(PORT)",
            "--bind",
            "$(POD_IP)",
            "--directory",
            "/usr/share",
        ],
        "env": [
            {"name": "PORT", "value": str(port)},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "ports": [{"name": "http", "containerPort": port}],
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }
    template = pod_template("", container, restartPolicy="Always")
    namespace.apply(_deployment("server", template, strategy={"type": "Recreate"}))
    namespace.wait("apps/v1", "deployments", "server", has_condition("Available"), "it is available")


def test_a_liveness_probe_that_fails_restarts_the_container(namespace: Namespace) -> None:
    probe = {"exec": {"command": ["test", "!", "-e", "/tmp/sick"]}, "periodSeconds": 1, "failureThreshold": 1}
    container = {"livenessProbe": probe}
    template = pod_template(
        "trap 'exit 0' TERM; touch /tmp/sick; while :; do sleep 0.05; done", container, restartPolicy="Always"
    )
    namespace.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sick"}, **template})

    def restarted(each: Json) -> bool:
        return any(row["restartCount"] > 0 for row in each["status"].get("containerStatuses", ()))

    namespace.wait("v1", "pods", "sick", restarted, "it is restarted")


def test_a_deleted_pod_is_asked_to_end_and_may_tidy_up(namespace: Namespace, bed: Bed) -> None:
    script = "trap 'echo tidied; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    namespace.apply(pod("tidy", script, terminationGracePeriodSeconds=20))
    running = namespace.wait("v1", "pods", "tidy", _phase("Running"), "it runs")
    log = bed.logs / f"{namespace.name}_tidy_{running['metadata']['uid']}" / "main" / "0.log"
    wait_until(lambda: "up" in log.read_text(), "its trap is set")
    namespace.client.delete(namespace.path("v1", "pods", "tidy"))
    wait_until(lambda: namespace.get("v1", "pods", "tidy") is None, "it is gone")
    assert log.read_text() == "up\ntidied\n"


def test_a_pod_that_does_not_listen_is_killed_after_its_grace(namespace: Namespace) -> None:
    namespace.apply(
        pod("deaf", "trap '' TERM; while :; do sleep 0.05; done", terminationGracePeriodSeconds=1)
    )
    namespace.wait("v1", "pods", "deaf", _phase("Running"), "it runs")
    namespace.client.delete(namespace.path("v1", "pods", "deaf"))
    wait_until(lambda: namespace.get("v1", "pods", "deaf") is None, "it is gone", 10)


def test_a_pod_deleted_by_force_does_not_live_on(namespace: Namespace) -> None:
    token = secrets.token_hex(8)
    script = f": {token}; trap '' TERM; while :; do sleep 0.05; done"
    namespace.apply(pod("stubborn", script, terminationGracePeriodSeconds=600))
    namespace.wait("v1", "pods", "stubborn", _phase("Running"), "it runs")
    path = namespace.path("v1", "pods", "stubborn")
    namespace.client.delete(path)
    assert _processes_with(token)
    namespace.client.delete(path, {"gracePeriodSeconds": 0})
    wait_until(lambda: not _processes_with(token), "its processes are gone", 20)


def test_a_deleted_job_takes_its_processes_along(namespace: Namespace) -> None:
    token = secrets.token_hex(8)
    template = pod_template(f"sleep 600 & : {token}; wait", terminationGracePeriodSeconds=0)
    namespace.apply(job("doomed", template))
    wait_until(lambda: _processes_with(token), "its processes run")
    namespace.kubectl("delete", "job", "doomed", "--wait=false")
    wait_until(lambda: not _processes_with(token), "its processes are gone")


def test_a_restart_of_the_api_server_passes_unnoticed(new_bed: Callable[..., Bed]) -> None:
    bed = new_bed()
    with Client(bed.kubeconfig) as client, temporary_namespace(client, "restart") as namespace:
        token = secrets.token_hex(8)
        script = f": {token}; until test -e /shared/go; do sleep 0.05; done; echo done > /dev/termination-log"
        mounts = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
        volumes = [{"name": "shared", "hostPath": {"path": str(bed.folder / "shared")}}]
        namespace.apply(job("steady", pod_template(script, mounts, volumes=volumes)))
        wait_until(lambda: _processes_with(token), "it runs")
        bed.control_plane.components["kube-apiserver"].kill()
        (bed.folder / "shared" / "go").touch()
        wait_until(lambda: not _processes_with(token), "it ends while nobody listens")
        bed.control_plane.components["kube-apiserver"].start()
        bed.control_plane.wait_ready()
        namespace.wait("batch/v1", "jobs", "steady", has_condition("Complete"), "its end is told", 60)
        (the_pod,) = namespace.pods_of("steady")
        assert the_pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "done\n"


def test_a_lost_node_is_noticed_and_its_pods_are_replaced(new_bed: Callable[..., Bed]) -> None:
    controllers = ["--node-monitor-grace-period=2s", "--node-monitor-period=500ms", "--node-eviction-rate=10"]
    bed = new_bed(extra_args={"kube-controller-manager": controllers}, heartbeat_seconds=0.5)
    with Client(bed.kubeconfig) as client, temporary_namespace(client, "lost") as namespace:
        template = pod_template("exec sleep 600", restartPolicy="Always", tolerations=leaving_lost_nodes(1))
        namespace.apply(_deployment("moved", template))
        namespace.wait("apps/v1", "deployments", "moved", has_condition("Available"), "it is available")
        (first,) = namespace.list("v1", "pods")

        def on_spare() -> bool:
            pods = namespace.list("v1", "pods")
            return any(_phase("Running")(each) and each["spec"]["nodeName"] == "spare" for each in pods)

        with bed.lost_node():
            bed.another_node("spare")
            wait_until(
                on_spare,
                "a pod runs on the other node",
                60,
            )
            left = namespace.get("v1", "pods", first["metadata"]["name"])
            assert left is not None
            assert has_condition("DisruptionTarget")(left)
            assert left["metadata"]["deletionTimestamp"]
        wait_until(
            lambda: namespace.get("v1", "pods", first["metadata"]["name"]) is None,
            "the node is back and has ended its pod",
        )


def test_a_node_started_again_owns_up_to_what_it_lost(new_bed: Callable[..., Bed]) -> None:
    bed = new_bed(crash_backoff_seconds=0.1, audit=True)
    with Client(bed.kubeconfig) as client, temporary_namespace(client, "again") as namespace:
        token = secrets.token_hex(8)
        namespace.apply(
            pod("once", f": {token}; sleep 600"),
            pod("always", f": {token}; sleep 600", restartPolicy="Always"),
        )
        for name in ("once", "always"):
            namespace.wait("v1", "pods", name, _phase("Running"), "it runs")
        node = bed.nodes["process-node"]
        node.kill()
        wait_until(lambda: not _processes_with(token), "the containers died with the node")
        node.start()
        namespace.wait("v1", "pods", "once", _phase("Failed"), "it failed")
        namespace.wait(
            "v1",
            "pods",
            "always",
            lambda each: (
                each["status"]["containerStatuses"][0]["restartCount"] == 1
                and "running" in each["status"]["containerStatuses"][0]["state"]
            ),
            "it runs again",
        )

    events = [json.loads(line) for line in bed.control_plane.audit_log.read_text().splitlines()]
    patched = [each for each in events if each["verb"] == "patch" and each["objectRef"]["resource"] == "pods"]
    assert {each["user"]["username"] for each in patched} == {"system:node:process-node"}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a cluster of the command line, which ends with the test even if that fails."""
    yield tmp_path / "bed"
    _command_line("down", tmp_path / "bed")


def _command_line(verb: str, folder: Path) -> None:
    command = [sys.executable, "-m", "tests.cluster", verb, "--dir", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)


def _up(folder: Path, token: str) -> int:
    """Start a cluster with a pod on it; the supervisor's process id."""
    _command_line("up", folder)
    manifest = pod("busy", f": {token}; sleep 600 & wait")
    with Client(folder / "kubeconfig") as client:
        client.call("POST", "/api/v1/namespaces/default/pods", manifest)
    wait_until(lambda: _processes_with(f": {token};"), "the pod runs")
    (supervisor,) = [pid for pid in _processes_with(str(folder)) if "supervise" in _command(pid)]
    return supervisor


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def _leftovers(folder: Path, token: str) -> list[str]:
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line]
    return [*map(str, _processes_with(str(folder))), *map(str, _processes_with(f": {token};")), *mounts]


def test_down_leaves_no_process_mount_or_folder(folder: Path) -> None:
    token = secrets.token_hex(8)
    _up(folder, token)
    _command_line("down", folder)
    assert _leftovers(folder, token) == []
    assert not folder.exists()


def test_all_ends_when_the_supervisor_is_killed(folder: Path) -> None:
    token = secrets.token_hex(8)
    os.kill(_up(folder, token), signal.SIGKILL)
    wait_until(lambda: not _leftovers(folder, token), "nothing is left")

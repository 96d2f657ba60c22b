"""Jobs on the test bed: the real scheduler and Job controller, with containers that really run."""

from __future__ import annotations

from tests.cluster.api import Json
from tests.cluster.client import Namespace, has_condition
from tests.cluster.manifests import job, pod, pod_template
from tests.cluster.pods import OOM_ANNOTATION
from tests.cluster.processes import free_ports
from tests.cluster.waiting import wait_until

pytest_plugins = ["tests.cluster.fixtures"]

POLICY: Json = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "main", "operator": "In", "values": list(range(64, 80))},
        },
    ]
}


def _ended(namespace: Namespace, name: str, condition: str) -> Json:
    return namespace.wait("batch/v1", "jobs", name, has_condition(condition), condition)


def _terminated(the_pod: Json) -> Json:
    found: Json = the_pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return found


def _running(namespace: Namespace, job_name: str) -> Json:
    def look() -> Json | None:
        pods = namespace.pods_of(job_name)
        running = [each for each in pods if each.get("status", {}).get("phase") == "Running"]
        return running[0] if running else None

    return wait_until(look, f"a pod of {job_name} runs")


def test_a_job_completes_and_its_message_is_read_back(namespace: Namespace) -> None:
    namespace.apply(job("hello", pod_template("echo to the log; echo $0 > /dev/termination-log; id -u")))
    _ended(namespace, "hello", "Complete")
    (the_pod,) = namespace.pods_of("hello")
    assert the_pod["spec"]["nodeName"] == "process-node"
    scheduled = next(row for row in the_pod["status"]["conditions"] if row["type"] == "PodScheduled")
    assert scheduled["status"] == "True"
    assert the_pod["status"]["phase"] == "Succeeded"
    assert _terminated(the_pod)["message"] == "sh\n"
    assert namespace.kubectl("logs", "job/hello") == "to the log\n0\n"


def test_a_message_is_cut_to_what_the_kubelet_keeps(namespace: Namespace) -> None:
    script = "head -c 5000 /dev/zero | tr '\\0' x > /tmp/result"
    namespace.apply(job("long", pod_template(script, {"terminationMessagePath": "/tmp/result"})))
    _ended(namespace, "long", "Complete")
    assert len(_terminated(namespace.pods_of("long")[0])["message"]) == 4096


def test_the_log_stands_in_for_the_message_of_a_failure(namespace: Namespace) -> None:
    container = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    namespace.apply(job("loud", pod_template("echo it broke; exit 7", container)))
    _ended(namespace, "loud", "Failed")
    ended = _terminated(namespace.pods_of("loud")[0])
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (7, "Error", "it broke")


def test_an_exit_code_of_the_users_fault_fails_the_job_at_once(namespace: Namespace) -> None:
    namespace.apply(job("wrong", pod_template("exit 64"), backoffLimit=3, podFailurePolicy=POLICY))
    ended = _ended(namespace, "wrong", "Failed")
    failed = next(row for row in ended["status"]["conditions"] if row["type"] == "Failed")
    assert failed["reason"] == "PodFailurePolicy"
    assert "64" in failed["message"]
    assert len(namespace.pods_of("wrong")) == 1


def test_another_exit_code_is_tried_again(namespace: Namespace) -> None:
    script = "test $POD_INDEX = 1 || exit 1"
    index = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    container = {"env": [{"name": "POD_INDEX", "valueFrom": index}]}
    namespace.apply(
        job(
            "shards",
            pod_template(script, container),
            completions=2,
            parallelism=2,
            completionMode="Indexed",
            backoffLimitPerIndex=0,
            backoffLimit=None,
        )
    )
    ended = _ended(namespace, "shards", "Failed")
    assert ended["status"]["completedIndexes"] == "1"
    assert ended["status"]["failedIndexes"] == "0"


def test_an_eviction_is_no_failure(namespace: Namespace) -> None:
    namespace.apply(job("evicted", pod_template("exec sleep 600"), podFailurePolicy=POLICY))
    path = namespace.path("v1", "pods", _running(namespace, "evicted")["metadata"]["name"])
    # As anybody's finalizer would, it keeps the object for us to look at.
    namespace.client.patch(
        path, {"metadata": {"finalizers": ["example/look", "batch.kubernetes.io/job-tracking"]}}
    )
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": path.rpartition("/")[2]}}
    namespace.client.call("POST", f"{path}/eviction", body)

    def counted() -> Json | None:
        evicted = namespace.client.get(path)
        return evicted if evicted and evicted["metadata"]["finalizers"] == ["example/look"] else None

    evicted = wait_until(counted, "the Job controller has dealt with the pod")
    namespace.client.patch(path, {"metadata": {"finalizers": None}})
    assert evicted["status"]["phase"] == "Failed"
    assert has_condition("DisruptionTarget")(evicted)
    the_job = namespace.get("batch/v1", "jobs", "evicted")
    assert the_job is not None
    assert the_job["status"].get("failed", 0) == 0
    assert not the_job["status"].get("conditions")


def test_a_container_out_of_memory_is_reported_as_such(namespace: Namespace) -> None:
    namespace.apply(job("hungry", pod_template("exec sleep 600")))
    name = _running(namespace, "hungry")["metadata"]["name"]
    namespace.client.patch(
        namespace.path("v1", "pods", name), {"metadata": {"annotations": {OOM_ANNOTATION: "main"}}}
    )
    _ended(namespace, "hungry", "Failed")
    ended = _terminated(namespace.pods_of("hungry")[0])
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_a_container_that_uses_more_than_its_limit_is_killed(namespace: Namespace) -> None:
    command = ["python", "-c", "import time; grown = bytearray(200 << 20); time.sleep(600)"]
    container = {"image": "python", "command": command, "resources": {"limits": {"memory": "100Mi"}}}
    namespace.apply(pod("greedy", "", container))

    def killed(each: Json) -> bool:
        rows = each["status"].get("containerStatuses", ())
        return any(row["state"].get("terminated", {}).get("reason") == "OOMKilled" for row in rows)

    assert _terminated(namespace.wait("v1", "pods", "greedy", killed, "it is killed"))["exitCode"] == 137


def test_the_pods_of_an_indexed_job_find_each_other_by_name(namespace: Namespace) -> None:
    (port,) = free_ports(1)
    container = {"image": "python", "command": ["python", "-c", _GANG, str(port)]}
    spec = {"completions": 2, "parallelism": 2, "completionMode": "Indexed"}
    service: Json = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "gang"}}
    service |= {"spec": {"clusterIP": "None", "selector": {"job-name": "gang"}}}
    namespace.apply(service, job("gang", pod_template("", container, subdomain="gang"), **spec))
    _ended(namespace, "gang", "Complete")


_GANG = """
import os, socket, sys, time
address = "gang-0.gang", int(sys.argv[1])
if os.environ["JOB_COMPLETION_INDEX"] == "0":
    assert socket.gethostname() == "gang-0"
    server = socket.create_server(address)
    connection, _ = server.accept()
    assert connection.recv(9) == b"1"
else:
    while True:
        try:
            socket.create_connection(address).sendall(b"1")
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
"""


def test_a_native_sidecar_ends_with_its_job(namespace: Namespace) -> None:
    script = (
        "trap 'echo asked > /dev/termination-log; exit 0' TERM; touch /shared/up; while :; do sleep 0.1; done"
    )
    mounts = [{"name": "shared", "mountPath": "/shared"}]
    sidecar: Json = {
        "name": "server",
        "image": "busybox",
        "command": ["sh", "-c", script],
        "restartPolicy": "Always",
        "startupProbe": {"exec": {"command": ["test", "-e", "/shared/up"]}, "periodSeconds": 1},
        "volumeMounts": mounts,
    }
    before = {"name": "before", "image": "busybox", "command": ["sh", "-c", "echo 1 > /shared/init"]}
    template = pod_template(
        "test -e /shared/up && test -s /shared/init",
        {"volumeMounts": mounts},
        initContainers=[before | {"volumeMounts": mounts}, sidecar],
        volumes=[{"name": "shared", "emptyDir": {}}],
        terminationGracePeriodSeconds=20,
    )
    namespace.apply(job("served", template))
    _ended(namespace, "served", "Complete")
    (the_pod,) = namespace.pods_of("served")
    server = next(row for row in the_pod["status"]["initContainerStatuses"] if row["name"] == "server")
    assert server["state"]["terminated"]["message"] == "asked\n"


def test_a_failing_container_is_restarted_in_place(namespace: Namespace) -> None:
    script = "mkdir /shared/first 2>/dev/null && exit 1; exit 0"
    mounts = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
    template = pod_template(
        script, mounts, volumes=[{"name": "shared", "emptyDir": {}}], restartPolicy="OnFailure"
    )
    namespace.apply(job("stubborn", template, backoffLimit=3))
    _ended(namespace, "stubborn", "Complete")
    (the_pod,) = namespace.pods_of("stubborn")
    (container,) = the_pod["status"]["containerStatuses"]
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 1


def test_a_suspended_job_loses_its_pod_and_resumes(namespace: Namespace) -> None:
    namespace.apply(job("paused", pod_template("exec sleep 600", terminationGracePeriodSeconds=0)))
    first = _running(namespace, "paused")["metadata"]["uid"]
    path = namespace.path("batch/v1", "jobs", "paused")
    namespace.client.patch(path, {"spec": {"suspend": True}})
    wait_until(lambda: not namespace.pods_of("paused"), "the pod is gone")
    namespace.client.patch(path, {"spec": {"suspend": False}})
    assert _running(namespace, "paused")["metadata"]["uid"] != first


def test_an_unknown_image_is_reported_as_the_kubelet_would(namespace: Namespace) -> None:
    namespace.apply(pod("nowhere", "exit 0", {"image": "no/such:image"}))

    def backs_off(the_pod: Json) -> bool:
        rows = the_pod.get("status", {}).get("containerStatuses", ())
        return [row["state"].get("waiting", {}).get("reason") for row in rows] == ["ImagePullBackOff"]

    namespace.wait("v1", "pods", "nowhere", backs_off, "ImagePullBackOff")


def test_a_program_that_is_not_there_is_a_start_error(namespace: Namespace) -> None:
    namespace.apply(job("typo", pod_template("", {"command": ["no-such-program"]})))
    _ended(namespace, "typo", "Failed")
    ended = _terminated(namespace.pods_of("typo")[0])
    assert (ended["exitCode"], ended["reason"]) == (128, "StartError")


def test_a_pod_that_meets_the_restricted_standard_runs_as_asked(namespace: Namespace) -> None:
    labels = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    namespace.client.patch(f"/api/v1/namespaces/{namespace.name}", labels)
    security: Json = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "fsGroup": 2000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container: Json = {
        "image": "python",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
    }
    script = (
        "touch /scratch/mine && ! touch /tmp/root 2>/dev/null && ! touch /usr/root 2>/dev/null"
        ' && echo "$(id -u) $(id -G) $(python -c "import yaml; print(1)")" > /dev/termination-log'
    )
    template = pod_template(
        script, container, securityContext=security, volumes=[{"name": "scratch", "emptyDir": {}}]
    )
    namespace.apply(job("humble", template))
    _ended(namespace, "humble", "Complete")
    assert _terminated(namespace.pods_of("humble")[0])["message"] == "65532 65532 2000 1\n"


def test_a_pods_deadline_ends_it(namespace: Namespace) -> None:
    namespace.apply(pod("slow", "exec sleep 600", activeDeadlineSeconds=1, terminationGracePeriodSeconds=0))
    failed = namespace.wait(
        "v1", "pods", "slow", lambda each: each.get("status", {}).get("phase") == "Failed", "it fails"
    )
    assert failed["status"]["reason"] == "DeadlineExceeded"

"""What pods find in their volumes and variables on the test bed."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import shim
from tests.cluster.api import Json
from tests.cluster.client import Namespace, has_condition
from tests.cluster.manifests import claim, claimed, job, pod, pod_template
from tests.cluster.waiting import wait_until

pytest_plugins = ["tests.cluster.fixtures"]


def _message(namespace: Namespace, name: str) -> str:
    """The termination message of a pod that succeeds."""

    def over(each: Json) -> bool:
        assert each["status"]["phase"] != "Failed", each["status"]
        return bool(each["status"]["phase"] == "Succeeded")

    the_pod = namespace.wait("v1", "pods", name, over, "it succeeds")
    message: str = the_pod["status"]["containerStatuses"][0]["state"]["terminated"].get("message", "")
    return message


def test_what_one_job_writes_another_reads(namespace: Namespace) -> None:
    mounts = {"volumeMounts": [{"name": "store", "mountPath": "/mnt/the/store"}]}
    volumes = [claimed("store", "store")]
    write = pod_template("echo 42 > /mnt/the/store/answer", mounts, volumes=volumes)
    namespace.apply(claim("store"), job("write", write))
    namespace.wait("batch/v1", "jobs", "write", has_condition("Complete"), "it completes")
    read = pod_template("cat /mnt/the/store/answer > /dev/termination-log", mounts, volumes=volumes)
    namespace.apply(job("read", read))
    namespace.wait("batch/v1", "jobs", "read", has_condition("Complete"), "it completes")
    (the_pod,) = namespace.pods_of("read")
    assert the_pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "42\n"


@pytest.mark.parametrize("storage_class", ["", "fast"])
def test_a_claim_of_any_class_is_bound(namespace: Namespace, storage_class: str) -> None:
    mounts = {"volumeMounts": [{"name": "store", "mountPath": "/store"}]}
    wanted = claim("store", storageClassName=storage_class)
    namespace.apply(wanted, pod("writer", "touch /store/file", mounts, volumes=[claimed("store", "store")]))
    _message(namespace, "writer")


def test_a_claims_folder_goes_with_it(namespace: Namespace) -> None:
    namespace.apply(claim("short"))
    bound = namespace.wait(
        "v1",
        "persistentvolumeclaims",
        "short",
        lambda each: each["status"]["phase"] == "Bound",
        "it is bound",
    )
    volume = f"/api/v1/persistentvolumes/{bound['spec']['volumeName']}"
    namespace.client.delete(namespace.path("v1", "persistentvolumeclaims", "short"))
    wait_until(lambda: namespace.client.get(volume) is None, "the volume is gone")


def test_read_only_mounts_refuse_writes_and_a_sub_path_confines(namespace: Namespace) -> None:
    mounts = [
        {"name": "store", "mountPath": "/inputs", "readOnly": True},
        {"name": "store", "mountPath": "/inputs/out", "subPath": "runs/7"},
        {"name": "store", "mountPath": "/expanded", "subPathExpr": "runs/$(RUN)"},
    ]
    script = """
        touch /inputs/no 2>/dev/null && exit 1
        touch /inputs/out/yes || exit 2
        ls /inputs/out/.. | grep -q runs || exit 3
        test -e /expanded/yes || exit 4
        test -e /inputs/runs/7/yes || exit 5
        """
    container = {"volumeMounts": mounts, "env": [{"name": "RUN", "value": "7"}]}
    # A mount point inside a read-only volume has to be there already, as with any container engine.
    prepare = {
        "name": "prepare",
        "image": "busybox",
        "command": ["mkdir", "-p", "/store/out"],
        "volumeMounts": [{"name": "store", "mountPath": "/store"}],
    }
    volumes = [claimed("store", "store")]
    namespace.apply(
        claim("store"), pod("confined", script, container, volumes=volumes, initContainers=[prepare])
    )
    _message(namespace, "confined")


def test_nothing_written_outside_of_volumes_outlives_its_container(namespace: Namespace) -> None:
    script = (
        "test ! -e /etc/left-behind && test ! -e /tmp/left-behind && touch /etc/left-behind /tmp/left-behind"
    )
    for name in ("once", "again"):
        namespace.apply(pod(name, script))
        _message(namespace, name)


def test_config_secrets_and_the_downward_api_are_files_and_variables(namespace: Namespace) -> None:
    config: Json = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}}
    config |= {
        "data": {"rate": "0.1", "plan.json": "{}"},
        "binaryData": {"raw": base64.b64encode(b"\xff").decode()},
    }
    secret: Json = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys"},
        "stringData": {"key": "s3"},
    }
    items = [
        {"path": "note", "fieldRef": {"fieldPath": "metadata.annotations['example/note']"}},
        {"path": "deep/labels", "fieldRef": {"fieldPath": "metadata.labels"}},
    ]
    volumes: list[Json] = [
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "keys", "secret": {"secretName": "keys", "items": [{"key": "key", "path": "a/b"}]}},
        {"name": "absent", "secret": {"secretName": "absent", "optional": True}},
        {"name": "about", "downwardAPI": {"items": items}},
    ]
    container = {
        "image": "python",
        "command": ["python", "-c", _REPORT],
        "args": ["$(RATE)"],
        "workingDir": "/about",
        "envFrom": [{"secretRef": {"name": "keys"}, "prefix": "SECRET_"}],
        "env": [
            {"name": "RATE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "rate"}}},
            {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
        ],
        "volumeMounts": [{"name": row["name"], "mountPath": f"/{row['name']}"} for row in volumes],
    }
    told_pod = pod("told", "", container, volumes=volumes)
    told_pod["metadata"] |= {"annotations": {"example/note": "line\nline"}, "labels": {"app": "told"}}
    namespace.apply(config, secret, told_pod)
    told = json.loads(_message(namespace, "told"))
    found = namespace.get("v1", "pods", "told")
    assert found is not None
    assert told == {
        "note": "line\nline",
        "labels": True,
        "settings": ["plan.json", "rate", "raw"],
        "raw": 255,
        "key": "s3",
        "absent": [],
        "environment": ["s3", found["metadata"]["uid"]],
        "arguments": ["0.1"],
    }


_REPORT = """
import json, os, sys
report = {
    "note": open("note").read(),
    "labels": 'app="told"' in open("/about/deep/labels").read(),
    "settings": sorted(os.listdir("/settings")),
    "raw": open("/settings/raw", "rb").read()[0],
    "key": open("/keys/a/b").read(),
    "absent": os.listdir("/absent"),
    "environment": [os.environ["SECRET_key"], os.environ["UID"]],
    "arguments": sys.argv[1:],
}
json.dump(report, open("/dev/termination-log", "w"))
"""


def test_a_pod_waits_for_the_secret_that_it_names(namespace: Namespace) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late"}, "stringData": {"KEY": "v"}}
    namespace.apply(pod("patient", 'test "$KEY" = v', {"envFrom": [{"secretRef": {"name": "late"}}]}))

    def waits(each: Json) -> bool:
        rows = each["status"].get("containerStatuses", ())
        return any(
            row["state"].get("waiting", {}).get("reason") == "CreateContainerConfigError" for row in rows
        )

    namespace.wait("v1", "pods", "patient", waits, "it says that it waits")
    namespace.apply(secret)
    _message(namespace, "patient")


def test_changed_annotations_reach_a_running_pod(namespace: Namespace) -> None:
    items = [{"path": "stop", "fieldRef": {"fieldPath": "metadata.annotations['example/stop']"}}]
    container = {"volumeMounts": [{"name": "about", "mountPath": "/about"}]}
    script = "until grep -q now /about/stop; do sleep 0.05; done"
    volumes = [{"name": "about", "downwardAPI": {"items": items}}]
    namespace.apply(pod("listener", script, container, volumes=volumes))
    namespace.wait("v1", "pods", "listener", lambda each: each["status"]["phase"] == "Running", "it runs")
    path = namespace.path("v1", "pods", "listener")
    namespace.client.patch(path, {"metadata": {"annotations": {"example/stop": "now"}}})
    namespace.wait("v1", "pods", "listener", lambda each: each["status"]["phase"] == "Succeeded", "it ends")


def test_a_pod_reaches_the_api_with_its_own_token_and_its_own_rights(namespace: Namespace) -> None:
    account: Json = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}}
    container = {"image": "python", "command": ["python", "-c", _ASK]}
    namespace.apply(account, pod("before", "", container, serviceAccountName="reader"))
    assert _message(namespace, "before") == "403"
    rbac = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    role: Json = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "read"}, "rules": rules}
    binding: Json = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "read"},
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "read"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader"}],
    }
    namespace.apply(role, binding, pod("after", "", container, serviceAccountName="reader"))
    assert _message(namespace, "after") == "kube-root-ca.crt"


_ASK = """
from kubernetes import client, config
config.load_incluster_config()
namespace = open("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read()
try:
    listed = client.CoreV1Api().list_namespaced_config_map(namespace).items
    answer = ",".join(item.metadata.name for item in listed)
except client.ApiException as error:
    answer = str(error.status)
open("/dev/termination-log", "w").write(answer)
"""


def test_no_token_is_mounted_where_none_is_wanted(namespace: Namespace) -> None:
    script = "test ! -e /var/run/secrets/kubernetes.io"
    namespace.apply(pod("mute", script, automountServiceAccountToken=False))
    _message(namespace, "mute")


def test_what_vanishes_from_a_working_copy_keeps_no_container_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("index.lock", "module.py"):
        (tmp_path / name).touch(mode=0o600)
    listed = os.walk

    def then_git_is_done(path: str) -> Iterator[tuple[str, list[str], list[str]]]:
        for found in listed(path):
            (tmp_path / "index.lock").unlink()
            yield found

    monkeypatch.setattr(os, "walk", then_git_is_done)
    shim._publish(str(tmp_path))
    assert (tmp_path / "module.py").stat().st_mode & 0o777 == 0o644

"""Manifests of pods, Jobs and claims, for tests that care about a few of their fields only."""

from __future__ import annotations

from typing import Any

from tests.cluster.api import Json


def pod(name: str, script: str, container: Json | None = None, **spec: Any) -> Json:
    """A pod whose one container, `main`, runs a shell script; `container` and `spec` add fields."""
    template = pod_template(script, container, **spec)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}


def pod_template(script: str, container: Json | None = None, **spec: Any) -> Json:
    """The spec of such a pod. It is never restarted, and ends within 2 seconds of being asked."""
    main: Json = {"name": "main", "image": "busybox", "command": ["sh", "-c", script], **(container or {})}
    defaults: Json = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 2}
    return {"spec": {**defaults, "containers": [main], **spec}}


def job(name: str, template: Json, **spec: Any) -> Json:
    """A Job of such a template, not tried again."""
    body: Json = {"backoffLimit": 0, "template": template, **spec}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": body}


def claim(name: str, **spec: Any) -> Json:
    """A claim to a volume."""
    body: Json = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": body}


def claimed(volume: str, claim_name: str) -> Json:
    """A pod's volume that is a claim's."""
    return {"name": volume, "persistentVolumeClaim": {"claimName": claim_name}}


def leaving_lost_nodes(seconds: int) -> list[Json]:
    """Tolerations of a pod that is evicted so soon from a node that is not heard of."""
    return [
        {
            "key": f"node.kubernetes.io/{taint}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": seconds,
        }
        for taint in ("not-ready", "unreachable")
    ]

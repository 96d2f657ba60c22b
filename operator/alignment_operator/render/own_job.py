"""The Job that a person makes with their own rights. It is no stage, and the operator does not see it."""

from __future__ import annotations

from typing import Any

from alignment_api import names
from alignment_api.pods import PodDefaults
from alignment_operator.observed import Owner
from alignment_operator.render.ownership import owner_reference


def own_job(
    owner: Owner,
    name: str,
    component: str,
    pods: PodDefaults,
    pod_spec: dict[str, Any],
    annotations: dict[str, str],
    *,
    seconds: int,
    ttl_seconds: int,
    kind: str = names.CYCLE_KIND,
) -> dict[str, Any]:
    """One pod, once, for at most so many seconds. `annotations`: of the pod. `kind`: the owner's.

    It goes with its owner, or `ttl_seconds` after its end should nobody be left to delete it.
    """
    labels = {
        "app.kubernetes.io/name": "alignment-worker",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/instance": owner.name,
        "app.kubernetes.io/part-of": "alignment-operator",
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": labels | ({names.LABEL_QUEUE: pods.queue_name} if pods.queue_name else {}),
            "ownerReferences": [owner_reference(kind, owner)],
        },
        "spec": {
            **({"suspend": True} if pods.queue_name else {}),  # Kueue admits it
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            "ttlSecondsAfterFinished": ttl_seconds,
            "template": {
                "metadata": {
                    "labels": {**(pods.pod_labels or {}), **labels},
                    "annotations": {**(pods.pod_annotations or {}), **annotations},
                },
                "spec": pod_spec,
            },
        },
    }

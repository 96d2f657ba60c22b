"""How the pods of one Job that compute together find each other: by the names that an Indexed Job gives them in DNS.

https://kubernetes.io/docs/tasks/job/job-with-pod-to-pod-communication/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from alignment_api import names
from alignment_api.stage import Stage
from alignment_operator.observed import Owner
from alignment_operator.planned import StartJob
from alignment_operator.render.ownership import owner_labels, owner_reference

_PORT = 29_500  # torchrun's own default


@dataclass(frozen=True)
class Meeting:
    """Fields of the pod, and the worker's flags."""

    pod: dict[str, Any] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def meeting_of(owner: Owner, start: StartJob) -> Meeting:
    """Nothing for a Job whose pods need not meet."""
    if start.config.nodes == 1:
        return Meeting()
    service = names.service_name(owner.name, owner.uid)
    return Meeting({"subdomain": service}, ("--coordinator", f"{start.name}-0.{service}:{_PORT}"))


def render_service(owner: Owner) -> dict[str, Any]:
    """The headless Service: one for all Jobs of the owner, as every pod has its own name in it. It goes with the owner.

    Addresses are published before pods are ready: the first thing that a pod does is to wait for the others.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": names.service_name(owner.name, owner.uid),
            "namespace": owner.namespace,
            "labels": owner_labels(names.CYCLE_KIND, owner),
            "ownerReferences": [owner_reference(names.CYCLE_KIND, owner)],
        },
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {names.LABEL_OWNER_UID: owner.uid, names.LABEL_STAGE: Stage.TRAIN.value},
        },
    }

"""The Job that reads the folder of a cycle or a dataset in the store for a person, and prints what it found.

It is no stage: the person who asks makes it, with their own rights, and the operator does not see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alignment_api import digests, names, uris
from alignment_api.iteration_report import ReadingConfig, read_by
from alignment_api.pods import PodDefaults
from alignment_operator.observed import Owner
from alignment_operator.render.job import RESTRICTED, pod_security_context, scheduling
from alignment_operator.render.layout import WORKER
from alignment_operator.render.mounts import (
    CLAIMS_FOLDER,
    CONFIG_FILE,
    CONFIG_MOUNT,
    config_volume,
    scratch,
)
from alignment_operator.render.ownership import owner_reference

SECONDS = 600  # a report takes a few
_TTL_SECONDS = 60  # should nobody be left to delete it
MAX_CONFIG_BYTES = 250_000  # of the 256 KiB that all annotations of an object may take


@dataclass(frozen=True)
class Reading:
    """What is to be read, and how its pod may run: as the stage `promote` of the iteration does."""

    name: str
    config: ReadingConfig
    pods: PodDefaults
    kind: str = names.CYCLE_KIND  # of its owner


def render_reading(owner: Owner, reading: Reading) -> dict[str, Any]:
    """The `batch/v1` Job; raises ValueError for a config that no annotation can hold.

    It sees what it reads, read-only: the folder of all iterations, or revisions, and to search the model.
    """
    text = digests.canonical_json(reading.config.to_wire()).decode()
    if len(text.encode()) > MAX_CONFIG_BYTES:
        raise ValueError(
            f"the status takes {len(text.encode())} bytes, of which an annotation holds {MAX_CONFIG_BYTES}"
        )
    pods = reading.pods
    labels = {
        "app.kubernetes.io/name": "alignment-worker",
        "app.kubernetes.io/component": "report",
        "app.kubernetes.io/instance": owner.name,
        "app.kubernetes.io/part-of": "alignment-operator",
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": reading.name,
            "namespace": owner.namespace,
            "labels": labels | ({names.LABEL_QUEUE: pods.queue_name} if pods.queue_name else {}),
            "ownerReferences": [owner_reference(reading.kind, owner)],
        },
        "spec": {
            **({"suspend": True} if pods.queue_name else {}),  # Kueue admits it
            "backoffLimit": 0,
            "activeDeadlineSeconds": SECONDS,
            "ttlSecondsAfterFinished": _TTL_SECONDS,
            "template": {
                "metadata": {
                    "labels": {**(pods.pod_labels or {}), **labels},
                    "annotations": {**(pods.pod_annotations or {}), names.ANNOTATION_REPORT_CONFIG: text},
                },
                "spec": _pod_spec(reading),
            },
        },
    }


def _pod_spec(reading: Reading) -> dict[str, Any]:
    pods, own = reading.pods, scratch(None)
    read = [location for uri in read_by(reading.config) if (location := uris.parse(uri)).claim]
    claims = list(dict.fromkeys(location.claim for location in read))
    volume = {claim: "store" if number == 0 else f"claim-{number}" for number, claim in enumerate(claims)}
    volumes = [
        config_volume(names.ANNOTATION_REPORT_CONFIG),
        *own.volumes,
        *({"name": volume[claim], "persistentVolumeClaim": {"claimName": claim}} for claim in claims),
    ]
    mounts = [
        *own.mounts,
        *(
            {
                "name": volume[location.claim],
                "mountPath": f"{CLAIMS_FOLDER}/{location.claim}/{location.path}",
                "subPath": str(location.path),
                "readOnly": True,
            }
            for location in read
        ),
    ]
    flags = [part for claim in claims for part in ("--claim", f"{claim}={CLAIMS_FOLDER}/{claim}")]
    container: dict[str, Any] = {
        "name": WORKER,
        "image": pods.image,
        "command": ["python", "-m", "alignment_worker.iteration_report"],
        "args": ["--config", CONFIG_FILE, *flags, "--framed"],
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - an emptyDir of this pod alone
        "volumeMounts": [CONFIG_MOUNT, *mounts],
        "securityContext": RESTRICTED,
    }
    if pods.resources is not None:
        container["resources"] = pods.resources.to_wire()
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security_context(pods),
        "containers": [container],
        "volumes": volumes,
        **scheduling(pods),
    }

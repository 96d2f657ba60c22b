"""The Job that reads the folder of a cycle or a dataset in the store for a person, and prints what it found."""

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
from alignment_operator.render.own_job import own_job

SECONDS = 600  # a report takes a few
_TTL_SECONDS = 60
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
    return own_job(
        owner,
        reading.name,
        "report",
        reading.pods,
        _pod_spec(reading),
        {names.ANNOTATION_REPORT_CONFIG: text},
        seconds=SECONDS,
        ttl_seconds=_TTL_SECONDS,
        kind=reading.kind,
    )


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

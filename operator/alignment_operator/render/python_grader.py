"""The container in which model-written code runs: a native sidecar, so that it ends with the worker.

It holds what the image holds, and a folder for a socket. https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from alignment_api import python_grader
from alignment_api.pods import Resources
from alignment_api.stage import StageConfig

CONTAINER = "grader"
_VOLUME = "grader"
_RESOURCES = Resources(
    requests={"cpu": "1", "memory": "1Gi", "ephemeral-storage": "16Mi"},
    limits={"cpu": "1", "memory": "1Gi", "ephemeral-storage": "16Mi"},
)


@dataclass(frozen=True)
class Grader:
    """What the pod gets, and the worker in it; nothing where no code is run."""

    containers: list[dict[str, Any]] = field(default_factory=list)
    volumes: list[dict[str, Any]] = field(default_factory=list)
    mounts: list[dict[str, Any]] = field(default_factory=list)


def render_grader(config: StageConfig, image: str, worker_user: int, security: dict[str, Any]) -> Grader:
    """As another user than the worker's, from the same image, which holds the same Python."""
    if config.python_grader is None:
        return Grader()
    mount = {"name": _VOLUME, "mountPath": python_grader.FOLDER}
    resources = config.python_grader.resources or _RESOURCES
    container = {
        "name": CONTAINER,
        "image": image,
        "restartPolicy": "Always",
        "command": ["python", "-m", "alignment_worker.python_grader"],
        "args": ["--socket", python_grader.SOCKET],
        "volumeMounts": [mount],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": security | {"runAsUser": worker_user + 1},
        "resources": resources.to_wire(),
    }
    volume = {"name": _VOLUME, "emptyDir": {"sizeLimit": "1Mi"}}
    return Grader([container], [volume], [mount | {"readOnly": True}])

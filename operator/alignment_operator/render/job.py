"""The Job of a stage's attempt."""

from __future__ import annotations

from typing import Any

from alignment_api import digests, names, python_grader, sampling_server, telemetry
from alignment_api.model import Model
from alignment_api.pods import PodDefaults
from alignment_operator.observed import Owner, Settings
from alignment_operator.planned import StartJob
from alignment_operator.render.api_keys import api_keys, credentials
from alignment_operator.render.layout import WORKER, layout
from alignment_operator.render.meeting import meeting_of
from alignment_operator.render.mounts import CONFIG_FILE, mounts_of
from alignment_operator.render.ownership import owner_kind, owner_reference, stage_labels
from alignment_operator.render.python_grader import render_grader
from alignment_operator.render.sampling_server import render_server, server_of, worker_resources

_NONROOT = 65_532
_POD_IP = {
    "name": "ALIGNMENT_POD_IP",
    "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}},
}  # others refer to it
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def render_job(owner: Owner, start: StartJob, settings: Settings) -> dict[str, Any]:
    """The `batch/v1` Job that runs one attempt of one stage; its TTL comes later, with the result in status."""
    config, pods = start.config, start.pods
    labels = stage_labels(owner, config, start.attempt)
    annotations = {names.ANNOTATION_STAGE_CONFIG: digests.canonical_json(config.to_wire()).decode()}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": start.name,
            "namespace": owner.namespace,
            "labels": labels | ({names.LABEL_QUEUE: pods.queue_name} if pods.queue_name else {}),
            "annotations": {names.ANNOTATION_STAGE_HASH: start.hash},
            "ownerReferences": [owner_reference(owner_kind(config), owner)],
        },
        "spec": {
            **({"suspend": True} if pods.queue_name else {}),  # Kueue admits it
            **layout(config, pods.retries),
            "activeDeadlineSeconds": pods.active_deadline_seconds,
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {
                    "labels": {**(pods.pod_labels or {}), **labels},
                    "annotations": {**(pods.pod_annotations or {}), **annotations},
                },
                "spec": pod_spec(owner, start, settings),
            },
        },
    }


def pod_spec(owner: Owner, start: StartJob, settings: Settings) -> dict[str, Any]:
    """Of the pod that runs one attempt of one stage."""
    pods = start.pods
    mounts = mounts_of(start.config, pods.shared_memory)
    meeting = meeting_of(owner, start)
    image, identity = pods.image or settings.worker_image, pod_security_context(pods)
    grader = render_grader(start.config, image, identity["runAsUser"], RESTRICTED)
    secrets = credentials(start.config)
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": identity,
        **meeting.pod,
        "containers": [
            {
                "name": WORKER,
                "image": image,
                "command": ["python", "-m", "alignment_worker", start.config.stage.value],
                "args": ["--config", CONFIG_FILE, *mounts.flags, *meeting.flags],
                "env": [*_environment(start), *api_keys(start.config)],
                **({"envFrom": secrets} if secrets else {}),
                "ports": [{"name": telemetry.PORT_NAME, "containerPort": telemetry.PORT}],
                "volumeMounts": [*mounts.mounts, *grader.mounts],
                "terminationMessagePolicy": "File",
                "securityContext": RESTRICTED,
            }
        ],
        "volumes": [*mounts.volumes, *grader.volumes],
        **({"initContainers": grader.containers} if grader.containers else {}),
        **render_server(start.config, mounts, _POD_IP, RESTRICTED),
    }
    resources = worker_resources(start.config, pods)
    if resources is not None:
        spec["containers"][0]["resources"] = resources.to_wire()
    return spec | scheduling(pods)


def scheduling(pods: PodDefaults) -> dict[str, Any]:
    """Where the pod may run, and as whom, as far as the spec says."""
    given: dict[str, Any] = {
        "serviceAccountName": pods.service_account_name,
        "priorityClassName": pods.priority_class_name,
        "nodeSelector": pods.node_selector,
        "affinity": pods.affinity.to_wire() if pods.affinity else None,
        "tolerations": _wire(pods.tolerations),
        "imagePullSecrets": _wire(pods.image_pull_secrets),
    }
    return {field: value for field, value in given.items() if value}


def _environment(start: StartJob) -> list[dict[str, Any]]:
    """Libraries keep caches under HOME, and only /tmp is writable. The worker listens on the pod's address alone."""
    address = f"$({_POD_IP['name']})"
    ours = {
        "HOME": "/tmp",  # noqa: S108 - an emptyDir of this pod alone
        telemetry.ADDRESS_VARIABLE: f"{address}:{telemetry.PORT}",
    }
    if server_of(start.config):
        ours[sampling_server.ADDRESS_VARIABLE] = f"{address}:{sampling_server.PORT}"
    theirs = {variable.name: variable.value for variable in start.pods.env or []}
    fixed = {python_grader.SOCKET_VARIABLE: python_grader.SOCKET} if start.config.python_grader else {}
    return [_POD_IP, *({"name": name, "value": value} for name, value in (ours | theirs | fixed).items())]


def pod_security_context(pods: PodDefaults) -> dict[str, Any]:
    """As the Pod Security Standard `restricted` demands.

    Group and mode of a big volume are set only if its root differs, not file by file at every start.
    """
    defaults = {"runAsUser": _NONROOT, "runAsGroup": _NONROOT, "fsGroup": _NONROOT}
    chosen = pods.pod_security_context.to_wire() if pods.pod_security_context else {}
    return {
        **defaults,
        **chosen,
        "runAsNonRoot": True,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _wire(models: list[Any] | None) -> list[dict[str, Any]]:
    return [model.to_wire() for model in models or [] if isinstance(model, Model)]

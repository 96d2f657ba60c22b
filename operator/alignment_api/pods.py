"""What a user may say of a stage's pod: `spec.defaults` and `spec.stages.STAGE`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from alignment_api import names
from alignment_api.affinity import Affinity, LabelValue
from alignment_api.model import Model

QUANTITY_PATTERN = r"^([0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]+)?$"

Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
    StringConstraints(pattern=QUANTITY_PATTERN, max_length=32),
    WithJsonSchema(
        {"x-kubernetes-int-or-string": True, "minimum": 0, "pattern": QUANTITY_PATTERN, "maxLength": 32}
    ),
]
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
ObjectName = Annotated[str, StringConstraints(pattern=names.DOTTED_NAME_PATTERN, max_length=253)]
ShortText = Annotated[str, StringConstraints(max_length=253)]


class Resources(Model):
    """Kubernetes resource requests and limits."""

    requests: dict[str, Quantity] | None = Field(
        None, max_length=16, description="Least amount of each resource, by its name."
    )
    limits: dict[str, Quantity] | None = Field(
        None, max_length=16, description="Most of each resource, by its name; accelerators go here."
    )

    def without_extended(self) -> Resources:
        """Without accelerators and other resources whose names have a domain."""
        return Resources(requests=_plain(self.requests), limits=_plain(self.limits))


def _plain(amounts: dict[str, Quantity] | None) -> dict[str, Quantity] | None:
    return None if amounts is None else {name: amount for name, amount in amounts.items() if "/" not in name}


class Toleration(Model):
    """A taint that the pod puts up with."""

    key: ShortText | None = Field(None, description="The taint's key; absent matches every key.")
    operator: Literal["Exists", "Equal"] | None = Field(None, description="How the value is compared.")
    value: ShortText | None = Field(None, description="The taint's value, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="The effect that is tolerated; absent matches all."
    )
    toleration_seconds: int | None = Field(None, ge=0, description="How long NoExecute is tolerated.")


class EnvironmentVariable(Model):
    """A literal environment variable of the worker."""

    name: Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN, max_length=128)] = Field(
        description="The variable's name."
    )
    value: Annotated[str, StringConstraints(max_length=4096)] = Field(description="Its value.")


class ImagePullSecret(Model):
    """A Secret of this namespace with the registry's credentials."""

    name: ObjectName = Field(description="The Secret's name.")


class PodSecurityContext(Model):
    """Who the worker runs as; everything else is set to the Pod Security Standard `restricted`."""

    run_as_user: int | None = Field(None, ge=1, description="User id; not 0.")
    run_as_group: int | None = Field(None, ge=1, description="Group id; not 0.")
    fs_group: int | None = Field(None, ge=1, description="Group that owns the mounted volumes.")


class PodSettings(Model):
    """How a stage's Job and pod are made. Maps merge by key over `spec.defaults`; lists replace."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(
        None, description="The worker's image. Absent: the one that the operator was installed with."
    )
    service_account_name: ObjectName | None = Field(
        None, description="Absent: the namespace's `default`. Its token is never mounted."
    )
    priority_class_name: ObjectName | None = Field(None, description="A PriorityClass.")
    queue_name: Annotated[str, StringConstraints(pattern=names.NAME_PATTERN, max_length=63)] | None = Field(
        None, description="A LocalQueue of Kueue's, which says when the stage's Job starts."
    )
    active_deadline_seconds: int | None = Field(
        None, ge=1, le=31_536_000, description="A stage that runs longer than this fails."
    )
    pending_deadline_seconds: int | None = Field(
        None,
        ge=0,
        le=31_536_000,
        description="A stage whose worker has not started, or whose input is not there, by then fails with the "
        "cause.",
    )
    retries: int | None = Field(
        None, ge=0, le=20, description="Retries after a failure that is nobody's fault."
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=31_536_000,
        description="How long a finished Job is kept once its result is in status.",
    )
    resources: Resources | None = Field(None, description="Requests and limits of the worker's container.")
    shared_memory: Quantity | None = Field(None, description="Size of an emptyDir in memory on /dev/shm.")
    node_selector: dict[str, LabelValue] | None = Field(
        None, max_length=32, description="Labels that the node must have."
    )
    affinity: Affinity | None = Field(None, description="Nodes and pods to be together with, or apart from.")
    tolerations: list[Toleration] | None = Field(
        None, max_length=32, description="Taints that the pod puts up with."
    )
    image_pull_secrets: list[ImagePullSecret] | None = Field(
        None, max_length=8, description="Credentials of the registry."
    )
    pod_security_context: PodSecurityContext | None = Field(None, description="Who the worker runs as.")
    pod_labels: dict[str, LabelValue] | None = Field(
        None, max_length=32, description="Further labels of the pod."
    )
    pod_annotations: dict[str, Annotated[str, StringConstraints(max_length=4096)]] | None = Field(
        None, max_length=32, description="Further annotations of the pod."
    )
    env: list[EnvironmentVariable] | None = Field(
        None, max_length=64, description="Further environment variables of the worker."
    )


class PodDefaults(PodSettings):
    """How every stage's Job and pod are made, unless `spec.stages.STAGE` says otherwise."""

    active_deadline_seconds: int = Field(
        86_400, ge=1, le=31_536_000, description="A stage that runs longer than this fails."
    )
    pending_deadline_seconds: int = Field(
        3600,
        ge=0,
        le=31_536_000,
        description="A stage whose worker has not started, or whose input is not there, by then fails with the "
        "cause.",
    )
    retries: int = Field(2, ge=0, le=20, description="Retries after a failure that is nobody's fault.")
    ttl_seconds_after_finished: int = Field(
        86_400,
        ge=0,
        le=31_536_000,
        description="How long a finished Job is kept once its result is in status.",
    )


def settled(defaults: PodDefaults, override: PodSettings | None) -> PodDefaults:
    """The settings of one stage: its override laid over the defaults; maps merge by key, the rest replaces."""
    return PodDefaults.from_wire(_merged(defaults.to_wire(), override.to_wire() if override else {}))


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = base.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged

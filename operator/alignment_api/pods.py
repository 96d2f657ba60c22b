"""What a user may say of a stage's pod: `spec.defaults` and `spec.stages.STAGE`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from alignment_api import names
from alignment_api.affinity import Affinity, LabelValue
from alignment_api.model import Model, Rule
from alignment_api.quantities import Quantity, amount

VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
ObjectName = Annotated[str, StringConstraints(pattern=names.DOTTED_NAME_PATTERN, max_length=253)]
LabelKey = Annotated[str, StringConstraints(pattern=names.LABEL_KEY_PATTERN, max_length=names.MAX_KEY_LENGTH)]
AnnotationKey = Annotated[
    str, StringConstraints(pattern=names.ANNOTATION_KEY_PATTERN, max_length=names.MAX_KEY_LENGTH)
]
# Of a container: https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/
RESOURCE_PATTERN = (
    f"^(cpu|memory|ephemeral-storage|hugepages-{names.QUALIFIED}|{names.DOMAIN}/{names.QUALIFIED})$"
)
ResourceName = Annotated[str, StringConstraints(pattern=RESOURCE_PATTERN, max_length=names.MAX_KEY_LENGTH)]


class Resources(Model):
    """Kubernetes resource requests and limits."""

    requests: dict[ResourceName, Quantity] | None = Field(
        None, max_length=16, description="Least amount of each resource, by its name."
    )
    limits: dict[ResourceName, Quantity] | None = Field(
        None, max_length=16, description="Most of each resource, by its name; accelerators go here."
    )

    rules = (
        Rule(
            "!has(self.requests) || !has(self.limits) || self.requests.all(name, !(name in self.limits) || "
            "quantity(string(self.requests[name])).compareTo(quantity(string(self.limits[name]))) <= 0)",
            "must not be less than requests of the same resource; raise the limit or lower the request",
            ".limits",
            lambda resources: resources.cover_requests(),
        ),
    )

    def cover_requests(self) -> bool:
        """Whether no limit is below its request."""
        requests, limits = self.requests or {}, self.limits or {}
        return all(amount(requests[name]) <= amount(limits[name]) for name in requests.keys() & limits.keys())

    def without_extended(self) -> Resources:
        """Without accelerators and other resources whose names have a domain."""
        return self.model_copy(update={"requests": _plain(self.requests), "limits": _plain(self.limits)})


def _plain(amounts: dict[str, Quantity] | None) -> dict[str, Quantity] | None:
    return None if amounts is None else {name: amount for name, amount in amounts.items() if "/" not in name}


class Toleration(Model):
    """A taint that the pod puts up with."""

    key: LabelKey | None = Field(None, description="The taint's key; absent matches every key.")
    operator: Literal["Exists", "Equal"] | None = Field(None, description="How the value is compared.")
    value: LabelValue | None = Field(None, description="The taint's value, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="The effect that is tolerated; absent matches all."
    )
    toleration_seconds: int | None = Field(None, ge=0, description="How long NoExecute is tolerated.")

    rules = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            "must be Exists where there is no key, which tolerates every taint; or give a key",
            ".operator",
            lambda toleration: toleration.key is not None or toleration.operator == "Exists",
        ),
        Rule(
            "!has(self.value) || self.value == '' || !has(self.operator) || self.operator == 'Equal'",
            "cannot be compared with operator Exists; take it out, or write operator: Equal",
            ".value",
            lambda toleration: not toleration.value or toleration.operator != "Exists",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            "needs effect: NoExecute, the only one that ends a pod",
            ".tolerationSeconds",
            lambda toleration: toleration.toleration_seconds is None or toleration.effect == "NoExecute",
        ),
    )


class EnvironmentVariable(Model):
    """A literal environment variable."""

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
    node_selector: dict[LabelKey, LabelValue] | None = Field(
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
    pod_labels: dict[LabelKey, LabelValue] | None = Field(
        None, max_length=32, description="Further labels of the pod."
    )
    pod_annotations: dict[AnnotationKey, Annotated[str, StringConstraints(max_length=4096)]] | None = Field(
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
    """The settings of one stage: its override laid over the defaults; maps merge by key, the rest replaces.

    What each says is valid, both together need not be: a limit here may be below a request there.
    """
    merged: PodDefaults = _over(defaults, override) if override else defaults
    return merged


def _over(below: Any, value: Any) -> Any:
    if isinstance(value, Model) and isinstance(below, Model):
        said = {name: getattr(value, name) for name in type(value).model_fields}
        changes = {name: _over(getattr(below, name), each) for name, each in said.items() if each is not None}
        return below.model_copy(update=changes)
    return {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value

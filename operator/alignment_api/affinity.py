"""Where a pod wants to be: `affinity` as Kubernetes' core/v1 has it, with bounds, and nothing unknown kept.

https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from alignment_api.model import Model

LABEL_VALUE_PATTERN = r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"
LabelValue = Annotated[str, StringConstraints(pattern=LABEL_VALUE_PATTERN, max_length=63)]
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]
Namespace = Annotated[str, StringConstraints(min_length=1, max_length=63)]
Weight = Annotated[int, Field(ge=1, le=100)]


class NodeRequirement(Model):
    """What a node's label must be."""

    key: LabelKey = Field(description="The label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(
        description="How it is compared with values."
    )
    values: Annotated[list[LabelValue], Field(max_length=32)] | None = Field(
        None, description="Several for In and NotIn, one whole number for Gt and Lt, else none."
    )


class NodeTerm(Model):
    """Requirements that hold together."""

    match_expressions: Annotated[list[NodeRequirement], Field(max_length=16)] | None = Field(
        None, description="On the node's labels."
    )
    match_fields: Annotated[list[NodeRequirement], Field(max_length=4)] | None = Field(
        None, description="On the node's fields: metadata.name."
    )


class NodeTerms(Model):
    """Terms of which one must hold."""

    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1, max_length=16)] = Field(
        description="One of these must hold."
    )


class PreferredNodeTerm(Model):
    """A term that counts so much."""

    weight: Weight = Field(description="How much it counts.")
    preference: NodeTerm = Field(description="What is preferred.")


class NodeAffinity(Model):
    """Which nodes."""

    required_during_scheduling_ignored_during_execution: NodeTerms | None = Field(
        None, description="The pod runs on no other nodes."
    )
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredNodeTerm], Field(max_length=16)] | None
    ) = Field(None, description="Nodes that are better than others.")


class LabelRequirement(Model):
    """What a label must be."""

    key: LabelKey = Field(description="The label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How it is compared with values."
    )
    values: Annotated[list[LabelValue], Field(max_length=32)] | None = Field(
        None, description="For In and NotIn."
    )


class LabelSelector(Model):
    """Which objects, by their labels; all that it says must hold."""

    match_labels: dict[str, LabelValue] | None = Field(
        None, max_length=16, description="Labels with their values."
    )
    match_expressions: Annotated[list[LabelRequirement], Field(max_length=16)] | None = Field(
        None, description="Requirements on labels."
    )


class PodTerm(Model):
    """Pods, and what being together with them means."""

    topology_key: LabelKey = Field(
        description="Together: on nodes with the same value of this label, such as kubernetes.io/hostname."
    )
    label_selector: LabelSelector | None = Field(None, description="Which pods. Absent: none.")
    namespaces: Annotated[list[Namespace], Field(max_length=16)] | None = Field(
        None, description="Of these namespaces. Absent: of the pod's own."
    )
    namespace_selector: LabelSelector | None = Field(
        None, description="Of namespaces with these labels, too; empty: of all."
    )


class PreferredPodTerm(Model):
    """A term that counts so much."""

    weight: Weight = Field(description="How much it counts.")
    pod_affinity_term: PodTerm = Field(description="What is preferred.")


class PodAffinity(Model):
    """Which pods to be together with, or apart from."""

    required_during_scheduling_ignored_during_execution: (
        Annotated[list[PodTerm], Field(max_length=16)] | None
    ) = Field(None, description="All of these must hold.")
    preferred_during_scheduling_ignored_during_execution: (
        Annotated[list[PreferredPodTerm], Field(max_length=16)] | None
    ) = Field(None, description="Better than otherwise.")


class Affinity(Model):
    """Where the pod wants to be."""

    node_affinity: NodeAffinity | None = Field(None, description="Nodes, by their labels.")
    pod_affinity: PodAffinity | None = Field(None, description="Pods to be together with.")
    pod_anti_affinity: PodAffinity | None = Field(None, description="Pods to be apart from.")

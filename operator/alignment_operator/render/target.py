"""A promotion target: what is applied to a ConfigMap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignment_api import names
from alignment_operator.observed import Owner
from alignment_operator.planned import PointTarget


def promoted_by(owner: Owner) -> str:
    """NAMESPACE/NAME/UID of the cycle, as the annotation on a target has it."""
    return f"{owner.namespace}/{owner.name}/{owner.uid}"


def render_target(owner: Owner, point: PointTarget, keys: Sequence[str]) -> dict[str, Any]:
    """All keys of this ConfigMap that the cycle sets: server-side apply drops those that are left out.

    No owner reference: deleting the cycle must not take down what serves.
    """
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": point.name,
            "namespace": owner.namespace,
            "labels": {names.LABEL_CYCLE: owner.name},
            "annotations": {
                names.ANNOTATION_DIGEST: point.digest,
                names.ANNOTATION_OWNER: promoted_by(owner),
            },
        },
        "data": dict.fromkeys(sorted({point.key, *keys}), point.uri),
    }

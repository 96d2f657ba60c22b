"""A promotion target: what is applied to a ConfigMap or an InferenceService."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alignment_api import names
from alignment_api.cycle import ConfigMapTarget
from alignment_operator.api import TARGET_KINDS
from alignment_operator.observed import Owner
from alignment_operator.planned import PointTarget


def promoted_by(owner: Owner) -> str:
    """NAMESPACE/NAME/UID of the cycle, as the annotation on a target has it."""
    return f"{owner.namespace}/{owner.name}/{owner.uid}"


def render_target(owner: Owner, point: PointTarget, same: Sequence[ConfigMapTarget]) -> dict[str, Any]:
    """With all keys that the cycle sets in this ConfigMap (`same`): server-side apply drops those that are left out.

    Of the version that the pass saw, so that a pass that was held up puts nothing older in the place of what is served.
    No owner reference: deleting the cycle must not take down what serves.
    """
    kind = TARGET_KINDS[point.kind]
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": point.name,
            "namespace": owner.namespace,
            **({"resourceVersion": point.resource_version} if point.resource_version else {}),
            "labels": {names.LABEL_CYCLE: owner.name},
            "annotations": {
                names.ANNOTATION_DIGEST: point.digest,
                names.ANNOTATION_OWNER: promoted_by(owner),
            },
        },
        **_carried(point, same),
    }


def _carried(point: PointTarget, same: Sequence[ConfigMapTarget]) -> dict[str, Any]:
    if point.kind == "InferenceService":
        return {"spec": {"predictor": {"model": {"storageUri": point.uri}}}}
    uris = dict.fromkeys((each.key for each in same), point.uri)
    return {"data": uris | {each.digest_key: point.digest for each in same if each.digest_key}}

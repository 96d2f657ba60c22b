"""The headless Service by which the pods of one Job find each other."""

from __future__ import annotations

from typing import Any

from alignment_api import names
from alignment_api.stage import Stage
from alignment_operator.observed import Owner
from alignment_operator.render.ownership import owner_labels, owner_reference


def render_service(owner: Owner) -> dict[str, Any]:
    """One for all Jobs of the owner: every pod has its own name in it. It goes with the owner.

    Addresses are published before pods are ready: the ranks of a training wait for each other first.
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

"""Labels and owner references that every object of ours carries."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from alignment_api import names
from alignment_api.model import API_VERSION
from alignment_api.stage import CollectParameters, Stage, StageConfig
from alignment_operator.observed import Owner

_RECOMMENDED = "app.kubernetes.io"
_VERSION = version("alignment-operator").replace("+", "_")  # as a label's value may have it


def owner_kind(config: StageConfig) -> str:
    of_dataset = isinstance(config.parameters, CollectParameters) and config.parameters.revisions is not None
    return names.DATASET_KIND if of_dataset or config.stage is Stage.INGEST else names.CYCLE_KIND


def owner_reference(kind: str, owner: Owner) -> dict[str, Any]:
    """Deleting the owner deletes the object.

    blockOwnerDeletion would need leave to change the owner's finalizers (OwnerReferencesPermissionEnforcement).
    """
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def owner_labels(kind: str, owner: Owner) -> dict[str, str]:
    named = names.LABEL_DATASET if kind == names.DATASET_KIND else names.LABEL_CYCLE
    return {
        f"{_RECOMMENDED}/instance": owner.name,
        f"{_RECOMMENDED}/part-of": "alignment-operator",
        f"{_RECOMMENDED}/managed-by": names.FIELD_MANAGER,
        named: owner.name,
        names.LABEL_OWNER_UID: owner.uid,
    }


def stage_labels(owner: Owner, config: StageConfig, attempt: int) -> dict[str, str]:
    return {
        f"{_RECOMMENDED}/name": "alignment-worker",
        f"{_RECOMMENDED}/component": config.stage.value,
        f"{_RECOMMENDED}/version": _VERSION,
        **owner_labels(owner_kind(config), owner),
        names.LABEL_STAGE: config.stage.value,
        names.LABEL_ITERATION: str(config.iteration),
        names.LABEL_ATTEMPT: str(attempt),
    }

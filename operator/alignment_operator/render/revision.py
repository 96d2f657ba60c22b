"""What an iteration froze, as a ControllerRevision, and back."""

from __future__ import annotations

from typing import Any

from alignment_api import names
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import DatasetRevision, StartedBy, Tested
from alignment_api.model import Model
from alignment_api.stage import Located
from alignment_operator.observed import Frozen, Owner
from alignment_operator.render.ownership import owner_labels, owner_reference


class _Data(Model):
    """`data` of the ControllerRevision."""

    contract_version: int
    trigger: StartedBy
    slot: str = ""
    started_at: str = ""
    handled_run: str
    generation: int
    spec: AlignmentCycleSpec
    incumbent: Located | None = None
    datasets: list[DatasetRevision]
    tested: Tested | None = None


def render_revision(owner: Owner, frozen: Frozen) -> dict[str, Any]:
    """The `apps/v1` ControllerRevision, owned by the cycle."""
    data = _Data(
        contract_version=frozen.contract_version,
        trigger=frozen.trigger,
        slot=frozen.slot,
        started_at=frozen.started_at,
        handled_run=frozen.handled_run,
        generation=frozen.generation,
        spec=frozen.spec,
        incumbent=frozen.incumbent,
        datasets=list(frozen.datasets),
        tested=frozen.tested,
    )
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": frozen.name,
            "namespace": owner.namespace,
            "labels": {
                **owner_labels(names.CYCLE_KIND, owner),
                names.LABEL_ITERATION: str(frozen.number),
            },
            "ownerReferences": [owner_reference(names.CYCLE_KIND, owner)],
        },
        "revision": frozen.number,
        "data": data.to_wire(),
    }


def parse_revision(manifest: dict[str, Any]) -> Frozen:
    """The inverse. Raises ValueError (`pydantic.ValidationError` is one) for what another version wrote."""
    data = _Data.from_wire(manifest.get("data"))
    return Frozen(
        name=manifest["metadata"]["name"],
        number=int(manifest["revision"]),
        trigger=data.trigger,
        slot=data.slot,
        started_at=data.started_at,
        handled_run=data.handled_run,
        generation=data.generation,
        spec=data.spec,
        incumbent=data.incumbent,
        datasets=tuple(data.datasets),
        contract_version=data.contract_version,
        tested=data.tested,
    )

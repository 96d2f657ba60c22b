"""The two kinds, as a table: what each is called, what its spec and status are, what `kubectl get` shows."""

from __future__ import annotations

from dataclasses import dataclass

from alignment_api import names
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.dataset import PreferenceDatasetSpec, PreferenceDatasetStatus
from alignment_api.model import Model

CATEGORY = "alignment"


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; a wide one is shown by `-o wide` only."""

    name: str
    json_path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True)
class Resource:
    """One custom resource."""

    kind: str
    plural: str
    short_name: str
    description: str
    spec: type[Model]
    status: type[Model]
    columns: tuple[Column, ...]


_READY = Column("Ready", '.status.conditions[?(@.type=="Ready")].status')
_STATUS = Column("Status", '.status.conditions[?(@.type=="Ready")].reason')
_AGE = Column("Age", ".metadata.creationTimestamp", "date")

CYCLE = Resource(
    kind=names.CYCLE_KIND,
    plural=names.CYCLE_PLURAL,
    short_name="acyc",
    description="A standing loop that samples, judges, trains, evaluates and promotes one model.",
    spec=AlignmentCycleSpec,
    status=AlignmentCycleStatus,
    columns=(
        _READY,
        _STATUS,
        Column("Iteration", ".status.iteration.number", "integer"),
        Column("Stage", ".status.iteration.stage"),
        Column("Outcome", ".status.iteration.outcome"),
        Column("Promoted", ".status.promoted.iteration", "integer"),
        Column("Next Run", ".status.nextRunAt"),
        Column("Method", ".spec.training.method", wide=True),
        Column("Reason", ".status.iteration.reason", wide=True),
        _AGE,
    ),
)

DATASET = Resource(
    kind=names.DATASET_KIND,
    plural=names.DATASET_PLURAL,
    short_name="prefds",
    description="Pairs of answers, or single answers that are good or bad, frozen into immutable revisions.",
    spec=PreferenceDatasetSpec,
    status=PreferenceDatasetStatus,
    columns=(
        _READY,
        _STATUS,
        Column("Pairs", ".status.pairs", "integer"),
        Column("Unpaired", ".status.unpaired", "integer"),
        Column("Revision", ".status.revision.number", "integer"),
        _AGE,
    ),
)

RESOURCES = (CYCLE, DATASET)

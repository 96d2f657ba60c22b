"""`PreferenceDataset`: pairs and unpaired rows from files, frozen into revisions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api import uris
from alignment_api.conditions import Condition
from alignment_api.cycle import ObjectName, Store
from alignment_api.cycle_status import StageStatus, Text
from alignment_api.judges import Uri
from alignment_api.model import ListMap, Model, Rule
from alignment_api.pods import PodDefaults
from alignment_api.stage import Key

ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Files(Model):
    """A file of pairs, or of unpaired rows."""

    uri: Uri = Field(
        description="JSON Lines or Parquet, as in TRL: `prompt`, `chosen`, `rejected`; or unpaired rows, for KTO: "
        "`prompt`, `completion`, `label`."
    )
    columns: dict[ColumnName, ColumnName] | None = Field(
        None, max_length=16, description="Renames, source name first."
    )


class Source(Model):
    """Where pairs come from; exactly one kind."""

    name: ObjectName = Field(description="Unique in the dataset.")
    files: Files | None = Field(None, description="A file of pairs, or of unpaired rows.")

    rules = (
        Rule("has(self.files)", "name exactly one of files", "", lambda source: source.files is not None),
    )


class PreferenceDatasetSpec(Model):
    """Where pairs come from and where revisions go."""

    store: Store = Field(description="Where revisions live.")
    sources: Annotated[list[Source], ListMap("name")] = Field(
        min_length=1, max_length=16, description="Where pairs come from."
    )
    defaults: PodDefaults = Field(default_factory=PodDefaults, description="How the Job's pod is made.")


class Revision(Model):
    """An immutable, content-addressed snapshot."""

    number: int = Field(ge=1, description="From 1.")
    uri: str = Field(max_length=uris.MAX_STORED_LENGTH, description="Its folder.")
    digest: str = Field(max_length=71, description="Of its manifest: the same pairs give the same digest.")
    at: str = Field(max_length=32, description="When it was made.")


class Rows(Model):
    """What became of the rows that were read."""

    read: int = Field(ge=0, description="Rows read.")
    invalid: int = Field(ge=0, description="Rows set aside because they are neither pairs nor unpaired rows.")
    kept: int = Field(ge=0, description="Rows in the revision.")


class PreferenceDatasetStatus(Model):
    """What the operator knows of the dataset."""

    observed_generation: int | None = Field(None, description="The generation that the status speaks of.")
    conditions: Annotated[list[Condition], ListMap("type")] = Field(
        [], max_length=16, description="Ready, Reconciling, Stalled (kstatus)."
    )
    handled: dict[Key, Text] = Field(
        {}, max_length=16, description="The last value of each verb's annotation that was acted on."
    )
    ingest: StageStatus | None = Field(None, description="The running refresh, or the last.")
    ingest_number: int = Field(0, ge=0, description="Refreshes so far.")
    ingest_generation: int | None = Field(None, description="The generation that the refresh works from.")
    revision: Revision | None = Field(None, description="The newest revision.")
    rows: Rows | None = Field(None, description="Counts of the newest revision.")
    pairs: int | None = Field(None, ge=0, description="Pairs in the newest revision.")
    unpaired: int | None = Field(None, ge=0, description="Unpaired rows in the newest revision.")

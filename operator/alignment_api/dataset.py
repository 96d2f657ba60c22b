"""`PreferenceDataset`: pairs and unpaired rows from files, frozen into revisions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api import names, uris
from alignment_api.conditions import Condition
from alignment_api.curation import Curation, FileFormat
from alignment_api.cycle import ObjectName, Store
from alignment_api.cycle_status import StageStatus, Text
from alignment_api.judges import SecretReference
from alignment_api.measurements import Measurement
from alignment_api.model import ListMap, Model, Rule
from alignment_api.pods import PodDefaults
from alignment_api.sources import CREDENTIALS_ARE_OF_A_BUCKET, InferenceLog, LabelStudio, SourceUri
from alignment_api.stage import Key
from alignment_api.trigger import Refresh

ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
FolderName = Annotated[str, StringConstraints(max_length=64)]


MAX_REVISIONS = 20
MAX_IN_USE = 1000


class Files(Model):
    """Files of pairs, or of unpaired rows."""

    uri: SourceUri = Field(
        description="JSON Lines, CSV, Parquet, or a folder that `datasets` saved; * stands for any characters of a "
        "name, ** for any folders. JSON Lines and CSV may be compressed (gzip, zstd)."
    )
    format: FileFormat | None = Field(
        None,
        description="TRL's columns. Paired: prompt, chosen, rejected; Unpaired: prompt, completion, label; Ranked: "
        "prompt, completions, and ranks (1 is the best) or scores. Auto, or absent: as each file's first good row.",
    )
    columns: dict[ColumnName, ColumnName] | None = Field(
        None, max_length=16, description="Renames, source name first."
    )
    credentials_secret_ref: SecretReference | None = Field(
        None,
        description="Keys for the bucket, named as the variables that its programs know (docs/data.md): AWS_…, "
        "GOOGLE_… or AZURE_…. Absent: what the pod's environment or its ServiceAccount has.",
    )

    rules = (CREDENTIALS_ARE_OF_A_BUCKET,)


class Source(Model):
    """Where pairs come from; exactly one kind."""

    name: ObjectName = Field(description="Unique in the dataset.")
    files: Files | None = Field(None, description="Files of pairs, or of unpaired rows.")
    label_studio: LabelStudio | None = Field(None, description="People's judgements.")
    inference_log: InferenceLog | None = Field(None, description="What production was asked and answered.")

    rules = (
        Rule(
            "[has(self.files), has(self.labelStudio), has(self.inferenceLog)].exists_one(kind, kind)",
            "name exactly one of files, labelStudio, inferenceLog",
            "",
            lambda source: (
                sum(kind is not None for kind in (source.files, source.label_studio, source.inference_log))
                == 1
            ),
        ),
    )


class Retention(Model):
    """How many revisions are kept."""

    revisions: int = Field(
        5,
        ge=1,
        le=MAX_REVISIONS,
        description="Newest revisions that are kept in the store, the one in force among them; one that a running "
        "iteration or a checkpoint that can be rolled back to works from is kept beside them.",
    )


class PreferenceDatasetSpec(Model):
    """Where pairs come from and where revisions go."""

    suspend: bool = Field(
        False, description="True: the running refresh's Job is suspended and none starts. False: all goes on."
    )
    store: Store = Field(description="Where revisions live.")
    sources: Annotated[list[Source], ListMap("name")] = Field(
        min_length=1, max_length=16, description="Where pairs come from."
    )
    refresh: Refresh | None = Field(None, description="When it is read anew by itself.")
    curation: Curation = Field(default_factory=Curation, description="What is left out of a revision.")
    retention: Retention = Field(default_factory=Retention, description="How much of the past is kept.")
    defaults: PodDefaults = Field(default_factory=PodDefaults, description="How the Job's pod is made.")


class Revision(Model):
    """An immutable, content-addressed snapshot."""

    number: int = Field(ge=1, description="From 1.")
    uri: str = Field(max_length=uris.MAX_STORED_LENGTH, description="Its folder.")
    digest: str = Field(
        max_length=71,
        description="Of its manifest: the same input on the same revision gives the same digest.",
    )
    sequence: int | None = Field(
        None, ge=0, description="The highest ordinal so far; that of a pair or unpaired row never changes."
    )
    pairs_ever: int | None = Field(
        None, ge=0, description="Pairs that it and the revisions before it had, each counted once."
    )
    unpaired_ever: int | None = Field(None, ge=0, description="The same of unpaired rows.")
    at: str = Field(max_length=32, description="When it was made.")


class RevisionCollection(Model):
    """The stage `collect` of the last refresh after which folders had to go."""

    refresh: int = Field(ge=1, description="The newest refresh that it looks at.")
    started_at: str = Field(max_length=32, description="When that refresh began.")
    kept: list[FolderName] = Field(
        max_length=MAX_REVISIONS, description="Folders of the newest revisions, which stay."
    )
    in_use: list[FolderName] = Field(
        [],
        max_length=MAX_IN_USE,
        description="Folders of older ones that stay because cycles work from them.",
    )
    stage: StageStatus = Field(description="Where it stands.")

    def lets_go(self, uri: str) -> bool:
        """Whether the folder of that URI is one that it deletes."""
        refresh, folder = names.refresh_of(uri), uri.rpartition("/")[2]
        return refresh is not None and refresh[0] <= self.refresh and folder not in {*self.kept, *self.in_use}


class Rows(Model):
    """What became of the rows that were read; of a ranked row, which makes several pairs, each pair counts."""

    read: int = Field(ge=0, description="Rows read.")
    invalid: int = Field(ge=0, description="Rows set aside because they are neither pairs nor unpaired rows.")
    duplicate: int | None = Field(None, ge=0, description="Left out: equal to one that is kept.")
    near_duplicate: int | None = Field(None, ge=0, description="Left out: curation.deduplicate.")
    contaminated: int | None = Field(None, ge=0, description="Left out: curation.contamination.")
    conflicting: int | None = Field(None, ge=0, description="Left out: curation.conflicts.")
    filtered: int | None = Field(None, ge=0, description="Left out: curation.filter, with the action Drop.")
    capped: int | None = Field(None, ge=0, description="Left out: curation.maxPairsPerSource.")
    pii: int | None = Field(None, ge=0, description="Left out: curation.pii.")
    kept: int = Field(ge=0, description="Pairs and unpaired rows in the revision.")


class JudgeStatistics(Model):
    """What a log's judge did, and how far it can be trusted."""

    source: ObjectName = Field(description="The log's source.")
    pairs: int = Field(ge=0, description="Pairs in the revision that it made.")
    agreement: Measurement | None = Field(
        None,
        description="Percent of the pairs that people judged, one of each prompt, in which it prefers what they chose; "
        "of an LLM that answer's share of the win in both orders, a tie being half.",
    )
    order_agreement: Measurement | None = Field(
        None, description="Percent of pairs of which an LLM says the same in both orders."
    )
    contested: int | None = Field(
        None,
        ge=0,
        description="Pairs in the revision that it would judge the other way: contested-SOURCE.jsonl.",
    )


class Statistics(Model):
    """Of the newest revision. Lengths are in characters: a dataset knows no tokenizer."""

    longer_chosen_percent: float | None = Field(
        None,
        description="Of the pairs whose answers differ by more than 10 % in length: in how many the longer is chosen.",
    )
    median_prompt_characters: int | None = Field(None, ge=0, description="Length of the prompts.")
    median_completion_characters: int | None = Field(None, ge=0, description="Length of the answers.")
    by_source: dict[Key, int] = Field(
        {}, max_length=16, description="Pairs and unpaired rows in the revision, by source."
    )
    by_model: dict[Key, int] = Field(
        {},
        max_length=4,
        description="Rows with an answer of the model of this digest, as inference logs say; the four with the most.",
    )
    longer_chosen_percent_by_source: dict[Key, float] = Field(
        {}, max_length=16, description="As longerChosenPercent, by source."
    )
    longer_chosen_percent_by_model: dict[Key, float] = Field(
        {}, max_length=4, description="As longerChosenPercent, of the models in byModel."
    )
    answers: int | None = Field(None, ge=0, description="Answers in the inference logs.")
    open_pairs: int | None = Field(
        None, ge=0, description="Two answers to a prompt of the logs, of which nobody said which is better."
    )
    pushed: int | None = Field(None, ge=0, description="Of these, new tasks in Label Studio.")
    pii: dict[Key, int] = Field(
        {},
        max_length=8,
        description="Rows in which curation.pii found personal data, by kind, whatever became of them: Email, IBAN, "
        "Card, NationalNumber, Phone.",
    )
    near_gold: int | None = Field(
        None, ge=0, description="Rows that stay and ask what is alike to a prompt of curation.contamination."
    )
    flagged: int | None = Field(
        None, ge=0, description="Rows in the revision whose chosen or good answer curation.filter flags."
    )
    judges: Annotated[list[JudgeStatistics], ListMap("source")] = Field(
        [], max_length=16, description="AI feedback, by the source that it is of."
    )


class PreferenceDatasetStatus(Model):
    """What the operator knows of the dataset."""

    observed_generation: int | None = Field(None, description="The generation that the status speaks of.")
    conditions: Annotated[list[Condition], ListMap("type")] = Field(
        [], max_length=16, description="Ready, Reconciling, Stalled (kstatus); Suspended."
    )
    handled: dict[Key, Text] = Field(
        {}, max_length=16, description="The last value of each verb's annotation that was acted on."
    )
    ingest: StageStatus | None = Field(None, description="The running refresh, or the last.")
    ingest_number: int = Field(0, ge=0, description="Refreshes so far.")
    ingest_generation: int | None = Field(None, description="The generation that the refresh works from.")
    next_refresh_at: str | None = Field(None, max_length=32, description="The next slot of spec.refresh.")
    revision: Revision | None = Field(None, description="The newest revision.")
    revisions: list[Revision] = Field(
        [], max_length=MAX_REVISIONS, description="Those before it that are kept, the newest first."
    )
    rows: Rows | None = Field(None, description="Counts of the newest revision.")
    pairs: int | None = Field(None, ge=0, description="Pairs in the newest revision.")
    unpaired: int | None = Field(None, ge=0, description="Unpaired rows in the newest revision.")
    prompts: int | None = Field(
        None,
        ge=0,
        description="Prompts in the newest revision, judged or not, each once: spec.prompts.fromDatasets.",
    )
    statistics: Statistics | None = Field(None, description="What the newest revision looks like.")
    collection: RevisionCollection | None = Field(None, description="What retention last let go.")

    @property
    def kept(self) -> list[Revision]:
        """The revisions that may be read, the newest first: not those that are about to be deleted."""
        known = [*([self.revision] if self.revision else []), *self.revisions]
        return [each for each in known if self.collection is None or not self.collection.lets_go(each.uri)]

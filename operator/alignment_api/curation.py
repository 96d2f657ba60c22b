"""What a PreferenceDataset leaves out of what its sources hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from alignment_api.judges import Uri
from alignment_api.model import Model, Rule

FileFormat = Literal["Auto", "Paired", "Unpaired", "Ranked"]
LogFormat = Literal["OpenAI", "LiteLLM", "OTelGenAI"]
Conflicts = Literal["Drop", "KeepLatest", "KeepMajority"]
FilterAction = Literal["Label", "Drop"]
OnPersonalData = Literal["Drop", "Redact", "Flag"]


class Contamination(Model):
    """Gold and held-out prompts that must not be trained on."""

    gold_sets: Annotated[list[Uri], Field(min_length=1, max_length=16)] = Field(
        description="Files of prompts. A row that asks one of them, or holds 13 words in a row of one, is left out."
    )
    min_similarity_percent: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Rows whose prompt is as alike as that to one of them, 100 times the cosine of their embeddings, "
        "are flagged, and stay; needs embedding. Absent: none are looked for.",
    )


class Deduplicate(Model):
    """Near-duplicates, which are left out too."""

    similarity_percent: float = Field(
        97.0,
        ge=50,
        le=100,
        description="Prompt and answers each as alike as that, 100 times the cosine of their embeddings, and with the "
        "same figures: the one with the lower ordinal stays.",
    )


class DatasetEmbedding(Model):
    """The model of the vector store."""

    model: Uri = Field(
        description="Folder with the model, its tokenizer and safetensors weights; it needs a padding token."
    )


class QualityFilter(Model):
    """A small model that flags what is likely made up, or badly answered (docs/data.md)."""

    model: Uri = Field(
        description="Folder with a sequence classifier of one or two labels, or a causal language model; its tokenizer "
        "and safetensors weights."
    )
    flag_below: float = Field(
        description="Answers with a lower score are flagged. Of a classifier it is the probability that the answer is "
        "good, from 0 to 1; of a language model the mean log-probability of the answer's tokens, in nats, at most 0."
    )
    action: FilterAction = Field(
        "Label",
        description="Label: what is flagged stays, and open pairs with a flagged answer go first to people or the "
        "judge. Drop: rows are left out whose chosen or good answer is flagged.",
    )


class PII(Model):
    """Personal data by its form: e-mail addresses, telephone, card, account (IBAN) and national numbers."""

    action: OnPersonalData = Field(
        "Drop",
        description="Of a row whose prompt or answers hold some. Drop: it is left out; Redact: it stays, with [email] "
        "and the like in its place; Flag: it stays as it is, and is listed. What is kept aside is redacted too, unless "
        "with Flag.",
    )


class Curation(Model):
    """Which rows are left out; each is set aside with the reason. Exact duplicates are left out always."""

    contamination: Contamination | None = Field(None, description="What must not be trained on.")
    filter: QualityFilter | None = Field(None, description="Flags answers by a small model. Absent: none is.")
    deduplicate: Deduplicate | None = Field(None, description="Near-duplicates; needs embedding.")
    embedding: DatasetEmbedding | None = Field(
        None,
        description="Embeds prompts and answers, for `alignctl search`, deduplicate and contamination's "
        "minSimilarityPercent.",
    )
    pii: PII | None = Field(None, description="What to do with personal data. Absent: none is looked for.")
    conflicts: Conflicts = Field(
        "Drop",
        description="The same answers judged both ways. Drop: neither stays; KeepLatest: the judgement that is read "
        "last stays; KeepMajority: the one that more rows say, neither at a tie.",
    )
    max_pairs_per_source: int | None = Field(
        None,
        ge=1,
        description="Most pairs and unpaired rows of one source; those that are read last stay.",
    )
    max_longer_chosen_percent: float | None = Field(
        None,
        ge=0,
        le=100,
        description="Of the pairs whose answers differ by more than 10 % in length: if in more of them the longer is "
        "chosen, the dataset is not Ready (LengthBiased), and the last revision stays in force.",
    )

    rules = (
        Rule(
            "has(self.embedding) || !has(self.deduplicate) "
            "&& (!has(self.contamination) || !has(self.contamination.minSimilarityPercent))",
            "name the model that tells what is alike: curation.embedding",
            ".embedding",
            lambda curation: curation.embedding is not None or not _compares(curation),
        ),
    )


def _compares(curation: Curation) -> bool:
    gold = curation.contamination
    return curation.deduplicate is not None or (gold is not None and gold.min_similarity_percent is not None)

"""Where a PreferenceDataset's pairs come from, besides files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api import uris
from alignment_api.curation import LogFormat
from alignment_api.judges import LLM, URL_PATTERN, RewardModel, SecretKey, SecretReference, Uri
from alignment_api.model import Model, Rule

SourceUri = Annotated[str, StringConstraints(pattern=uris.SOURCE_PATTERN, max_length=uris.MAX_LENGTH)]
# What a program of each cloud calls the variables that say how to reach it.
CREDENTIALS = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}

CREDENTIALS_ARE_OF_A_BUCKET = Rule(
    "!has(self.credentialsSecretRef) || self.uri.matches('^(s3|gs|az)://')",
    "is for s3://, gs:// and az:// alone; take it out",
    ".credentialsSecretRef",
    lambda place: place.credentials_secret_ref is None or uris.in_bucket(place.uri) is not None,
)


def token_variable(source: int) -> str:
    """Of the worker's environment: the token of this source's server, or the API key of its judge."""
    return f"ALIGNMENT_SOURCE_{source}_TOKEN"


def credentials_prefix(source: int) -> str:
    """Of the variables of the worker's environment that the source of this number has from its Secret."""
    return f"ALIGNMENT_SOURCE_{source}_"


class LogVerifier(Model):
    """Checks answers by rule, to prompts whose right answer is known."""

    prompts: Uri = Field(
        description="File of prompts with `answer` and `grader`, as gold items have them (docs/data.md); answers to "
        "these prompts are checked. Any grader but Python."
    )


class LogJudge(Model):
    """AI feedback: ranks answers to the same prompt of which nobody said which is better. Exactly one kind of judge."""

    reward_model: RewardModel | None = Field(None, description="A reward model, with its `uri`.")
    llm: LLM | None = Field(
        None,
        description="A language model that compares two answers. The budget is that of one refresh: what it leaves "
        "over stays open until the next.",
    )
    verifier: LogVerifier | None = Field(None, description="A verifier of checkable answers.")
    check_pairs: int = Field(
        200,
        ge=0,
        le=100_000,
        description="Most pairs that people judged, those that are read last, about which it is asked too. How far it "
        "agrees is in the status; the pairs that it would judge the other way are in contested-SOURCE.jsonl.",
    )

    rules = (
        Rule(
            cel="[has(self.rewardModel), has(self.llm), has(self.verifier)].exists_one(given, given)",
            message="name exactly one of rewardModel, llm, verifier",
            field_path="",
            holds=lambda judge: [judge.reward_model, judge.llm, judge.verifier].count(None) == 2,
        ),
        Rule(
            cel="!has(self.rewardModel) || has(self.rewardModel.uri)",
            message="is needed here: a dataset trains no reward model",
            field_path=".rewardModel.uri",
            holds=lambda judge: judge.reward_model is None or judge.reward_model.uri is not None,
        ),
    )


class InferenceLog(Model):
    """What was served: prompts, answers, and what people said of them (docs/inference-logs.md)."""

    uri: SourceUri = Field(
        description="The log's folder; or files, where * stands for any characters of a name."
    )
    format: LogFormat = Field(
        description="OpenAI: requests and responses, as alignment-recorder writes them, or chat records; LiteLLM: its "
        "standard payload; OTelGenAI: OTLP JSON of spans."
    )
    feedback: bool | None = Field(
        None,
        description="Thumbs and edits are judgements. Absent: true. False: only what a conversation went on with.",
    )
    sample_percent: float | None = Field(
        None, gt=0, le=100, description="Of the prompts whose answers are read. Absent: all."
    )
    judge: LogJudge | None = Field(
        None, description="Ranks what people did not; their labels win over its. Absent: it stays open."
    )
    credentials_secret_ref: SecretReference | None = Field(
        None, description="As of files: keys for the bucket."
    )

    rules = (CREDENTIALS_ARE_OF_A_BUCKET,)


class LabelStudio(Model):
    """A project in which people compare two answers (docs/label-studio.md)."""

    url: Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=512)] = Field(
        description="The server's address."
    )
    project_id: int = Field(
        ge=1, alias="projectID", description="A project that compares two texts; an empty one is made to."
    )
    token_secret_ref: SecretKey = Field(description="A personal access token, or a legacy one.")
    push_pairs: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Most pairs of the inference logs before this source that become tasks at a refresh: two answers "
        "to a prompt of which nobody said which is better. Absent: none.",
    )

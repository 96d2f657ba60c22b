"""Where a PreferenceDataset's pairs come from, besides files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api.curation import LogFormat
from alignment_api.judges import URL_PATTERN, SecretKey, Uri
from alignment_api.model import Model


def token_variable(source: int) -> str:
    """Of the worker's environment, with the token that the source of this number takes."""
    return f"ALIGNMENT_SOURCE_{source}_TOKEN"


class InferenceLog(Model):
    """What was served: prompts, answers, and what people said of them (docs/inference-logs.md)."""

    uri: Uri = Field(description="The log's folder; or files, where * stands for any characters of a name.")
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

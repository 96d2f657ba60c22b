"""What prefers one answer to another: a reward model, an LLM, or a verifier of checkable answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api import names, uris
from alignment_api.model import Model, Rule

# Environment of the worker, by the judge's role; set from apiKeySecretRef.
API_KEY_VARIABLES = {
    "judge": "ALIGNMENT_JUDGE_API_KEY",
    "comparisonJudge": "ALIGNMENT_COMPARISON_JUDGE_API_KEY",
}
URL_PATTERN = r"^https?://[^\s/?#@]+(/[^\s?#]*)?$"
Uri = Annotated[str, StringConstraints(pattern=uris.PATTERN, max_length=uris.MAX_LENGTH)]


class RewardModel(Model):
    """A sequence-classification model with one label; the higher score is preferred."""

    uri: Uri | None = Field(
        None,
        description="Folder with the model, its tokenizer and safetensors weights. Absent: the one that spec.reward "
        "trains.",
    )
    batch_size: int = Field(16, ge=1, le=4096, description="Answers scored at once.")


class Verifier(Model):
    """Checks answers by rule: the prompts carry a checkable `answer` and a `grader`, as gold items do."""


class SecretKey(Model):
    """A key of a Secret of this namespace; the operator never reads it."""

    name: Annotated[str, StringConstraints(pattern=names.DOTTED_NAME_PATTERN, max_length=253)] = Field(
        description="The Secret's name."
    )
    key: Annotated[str, StringConstraints(pattern=names.CONFIG_MAP_KEY_PATTERN, max_length=253)] = Field(
        description="The key."
    )


class SecretReference(Model):
    """A Secret of this namespace; the operator never reads it."""

    name: Annotated[str, StringConstraints(pattern=names.DOTTED_NAME_PATTERN, max_length=253)] = Field(
        description="The Secret's name."
    )


class Budget(Model):
    """What the judge may cost in one stage."""

    max_requests: int | None = Field(None, ge=1, le=10**12, description="Most requests. Absent: no limit.")
    max_tokens: int | None = Field(
        None,
        ge=1,
        le=10**12,
        description="Most tokens, read and written. The endpoint must say how many a reply took. Absent: no limit.",
    )


class LLM(Model):
    """A language model behind an OpenAI-compatible endpoint, asked which of two answers is better (docs/judges.md)."""

    base_url: Annotated[str, StringConstraints(pattern=URL_PATTERN, max_length=512)] = Field(
        alias="baseURL", description="The endpoint, up to and without /chat/completions."
    )
    model: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        description="The model's name there."
    )
    api_key_secret_ref: SecretKey | None = Field(None, description="The API key. Absent: none is sent.")
    rubric: Annotated[str, StringConstraints(min_length=1, max_length=8192)] | None = Field(
        None, description="What makes an answer better. Absent: correct and helpful, then shorter."
    )
    max_concurrency: int = Field(16, ge=1, le=1024, description="Requests under way at once.")
    budget: Budget | None = Field(
        None, description="Reached: the stage stops with JudgeBudgetExhausted. Absent: none."
    )


class ComparisonJudge(Model):
    """Exactly one kind of judge."""

    reward_model: RewardModel | None = Field(None, description="A reward model.")
    llm: LLM | None = Field(None, description="A language model that compares two answers.")
    verifier: Verifier | None = Field(
        None,
        description="A verifier of checkable answers; it has no settings. The prompts that it judges need `answer` and "
        "`grader`: spec.prompts if it is spec.judge, evaluation.heldOutPrompts if it compares.",
    )

    rules = (
        Rule(
            cel="[has(self.rewardModel), has(self.llm), has(self.verifier)].exists_one(given, given)",
            message="name exactly one of rewardModel, llm, verifier",
            field_path="",
            holds=lambda judge: [judge.reward_model, judge.llm, judge.verifier].count(None) == 2,
        ),
    )


def reads_answers(judge: ComparisonJudge | None) -> bool:
    """Whether it can be taken in by what an answer says: a verifier cannot."""
    return judge is not None and judge.verifier is None


def trained_here(judge: ComparisonJudge | None) -> bool:
    """Whether it is the reward model that the stage `reward` of the same iteration trains."""
    return judge is not None and judge.reward_model is not None and judge.reward_model.uri is None

"""What prefers one answer to another: a reward model or a verifier of checkable answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api import uris
from alignment_api.model import Model, Rule

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


class ComparisonJudge(Model):
    """Exactly one kind of judge."""

    reward_model: RewardModel | None = Field(None, description="A reward model.")
    verifier: Verifier | None = Field(
        None,
        description="A verifier of checkable answers; it has no settings. The prompts that it judges need `answer` and "
        "`grader`: spec.prompts if it is spec.judge, evaluation.heldOutPrompts if it compares.",
    )

    rules = (
        Rule(
            cel="has(self.rewardModel) != has(self.verifier)",
            message="name exactly one of rewardModel, verifier",
            field_path="",
            holds=lambda judge: (judge.reward_model is None) != (judge.verifier is None),
        ),
    )


def trained_here(judge: ComparisonJudge | None) -> bool:
    """Whether it is the reward model that the stage `reward` of the same iteration trains."""
    return judge is not None and judge.reward_model is not None and judge.reward_model.uri is None

"""`spec.prompts`: what the policy is sampled on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from alignment_api.judges import Uri
from alignment_api.model import Model, Rule

Spread = Literal["None", "Clusters"]


class Prompts(Model):
    """What the policy is sampled on: a file, or what spec.datasets were asked."""

    uri: Uri | None = Field(
        None,
        description="JSON Lines or Parquet with `prompt`: a string is taken as it is, a list of chat messages "
        "goes through the chat template. With judge.verifier, `answer` and `grader` too. Further columns are never "
        "shown to the policy (docs/data.md).",
    )
    from_datasets: bool | None = Field(
        None,
        description="True: the prompts of spec.datasets, labelled or not, production's among them (docs/data.md).",
    )
    per_iteration: int | None = Field(
        None,
        ge=1,
        description="Prompts of one iteration, drawn without replacement. Absent, or more than there are: all.",
    )
    spread: Spread | None = Field(
        None,
        description="How perIteration prompts of fromDatasets are drawn. Clusters: as evenly as they go over what "
        "resembles each other; the datasets need curation.embedding. None, or absent: each prompt alike.",
    )

    rules = (
        Rule(
            cel="has(self.uri) != (has(self.fromDatasets) && self.fromDatasets)",
            message="name exactly one of uri and fromDatasets: true",
            field_path="",
            holds=lambda prompts: (prompts.uri is not None) != bool(prompts.from_datasets),
        ),
        Rule(
            cel="!has(self.spread) || self.spread == 'None' || "
            "(has(self.fromDatasets) && self.fromDatasets && has(self.perIteration))",
            message="needs fromDatasets and perIteration: it says which of the datasets' prompts are drawn",
            field_path=".spread",
            holds=lambda prompts: (
                prompts.spread != "Clusters"
                or (bool(prompts.from_datasets) and prompts.per_iteration is not None)
            ),
        ),
    )


def asks_datasets(spec: Any) -> bool:
    """Whether a cycle's spec samples on its datasets' prompts."""
    return spec.prompts is not None and bool(spec.prompts.from_datasets)


_OTHER_PROMPTS = "!has(self.prompts) || !has(self.prompts.fromDatasets) || !self.prompts.fromDatasets || "

# Rules of AlignmentCycle's spec.
PROMPTS_RULES = (
    Rule(
        cel=f"{_OTHER_PROMPTS}(has(self.datasets) && size(self.datasets) > 0)",
        message="needs datasets: it samples on their prompts",
        field_path=".prompts.fromDatasets",
        holds=lambda spec: not asks_datasets(spec) or bool(spec.datasets),
    ),
    Rule(
        cel=f"{_OTHER_PROMPTS}!has(self.judge) || !has(self.judge.verifier)",
        message="checks answers by `answer` and `grader` of each prompt, which those of datasets do not have: give "
        "prompts.uri, or another judge",
        field_path=".judge.verifier",
        holds=lambda spec: not asks_datasets(spec) or spec.judge is None or spec.judge.verifier is None,
    ),
    Rule(
        cel=f"{_OTHER_PROMPTS}!has(self.judge) || !has(self.judge.shortCorrectPercent) || "
        "self.judge.shortCorrectPercent == 0.0",
        message="needs prompts with `answer` and `grader`, which those of datasets do not have: give prompts.uri, "
        "or leave it out",
        field_path=".judge.shortCorrectPercent",
        holds=lambda spec: (
            not asks_datasets(spec) or spec.judge is None or spec.judge.short_correct_percent == 0
        ),
    ),
)

"""Keys of LLM judges in the pods of stages: by reference, and where they are needed."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_api.cycle import Comparison, Judge
from alignment_api.judges import ComparisonJudge
from alignment_api.stage import CompareParameters, JudgeParameters, Stage
from tests.operator.edges import stage_config
from tests.operator.test_render import rendered, worker_of


def llm(secret: str | None) -> dict[str, Any]:
    reference = {"apiKeySecretRef": {"name": secret, "key": "api-key"}} if secret else {}
    return {"llm": {"baseURL": "https://judge/v1", "model": "m", **reference}}


def compared(training: dict[str, Any] | None, comparing: dict[str, Any] | None) -> CompareParameters:
    return CompareParameters(
        comparison=Comparison(judge=ComparisonJudge.from_wire(comparing) if comparing else None),
        judge=Judge.from_wire(training) if training else None,
        min_percent=50,
        confidence_percent=95,
    )


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (JudgeParameters(judge=Judge.from_wire(llm("one"))), {"ALIGNMENT_JUDGE_API_KEY": "one"}),
        (JudgeParameters(judge=Judge.from_wire(llm(None))), {}),
        (compared({"verifier": {}}, llm("two")), {"ALIGNMENT_COMPARISON_JUDGE_API_KEY": "two"}),
        (compared(llm("one"), None), {"ALIGNMENT_JUDGE_API_KEY": "one"}),
        (
            compared(llm("one"), llm("two")),
            {"ALIGNMENT_JUDGE_API_KEY": "one", "ALIGNMENT_COMPARISON_JUDGE_API_KEY": "two"},
        ),
    ],
)
def test_a_stage_gets_the_keys_of_the_judges_that_it_asks(
    parameters: JudgeParameters | CompareParameters, expected: dict[str, str]
) -> None:
    config = stage_config().model_copy(update={"stage": Stage(parameters.stage), "parameters": parameters})
    variables = worker_of(rendered(config))["env"]
    found = {each["name"]: each["valueFrom"] for each in variables if each["name"].endswith("API_KEY")}
    assert found == {
        name: {"secretKeyRef": {"name": secret, "key": "api-key"}} for name, secret in expected.items()
    }


def test_other_stages_get_none() -> None:
    assert not [each for each in worker_of(rendered())["env"] if each["name"].endswith("API_KEY")]

"""The API keys that a stage's pod gets: by reference, for the kubelet to read."""

from __future__ import annotations

from typing import Any

from alignment_api.judges import API_KEY_VARIABLES, ComparisonJudge
from alignment_api.stage import CompareParameters, JudgeParameters, StageConfig


def api_keys(config: StageConfig) -> list[dict[str, Any]]:
    """Environment variables of the worker, for the judges that the stage asks.

    A Secret that is missing keeps the pod from starting, which the status then says.
    """
    return [
        {
            "name": API_KEY_VARIABLES[role],
            "valueFrom": {"secretKeyRef": judge.llm.api_key_secret_ref.to_wire()},
        }
        for role, judge in _judges(config).items()
        if judge is not None and judge.llm is not None and judge.llm.api_key_secret_ref is not None
    ]


def _judges(config: StageConfig) -> dict[str, ComparisonJudge | None]:
    parameters = config.parameters
    if isinstance(parameters, JudgeParameters):
        return {"judge": parameters.judge}
    if isinstance(parameters, CompareParameters):
        return {"judge": parameters.judge, "comparisonJudge": parameters.comparison.judge}
    return {}

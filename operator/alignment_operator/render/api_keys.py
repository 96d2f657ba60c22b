"""The API keys, tokens and credentials that a stage's pod gets: by reference, for the kubelet to read."""

from __future__ import annotations

from typing import Any

from alignment_api.judges import API_KEY_VARIABLES, ComparisonJudge, SecretKey
from alignment_api.sources import credentials_prefix, token_variable
from alignment_api.stage import (
    CompareParameters,
    IngestedSource,
    IngestParameters,
    JudgeParameters,
    StageConfig,
)


def api_keys(config: StageConfig) -> list[dict[str, Any]]:
    """Environment variables of the worker, for the judges and servers that the stage asks.

    A Secret that is missing keeps the pod from starting, which the status then says.
    """
    return [
        {
            "name": API_KEY_VARIABLES[role],
            "valueFrom": {"secretKeyRef": judge.llm.api_key_secret_ref.to_wire()},
        }
        for role, judge in _judges(config).items()
        if judge is not None and judge.llm is not None and judge.llm.api_key_secret_ref is not None
    ] + [
        {
            "name": token_variable(index),
            "valueFrom": {"secretKeyRef": reference.to_wire()},
        }
        for index, source in enumerate(_sources(config))
        if (reference := _secret(source)) is not None
    ]


def credentials(config: StageConfig) -> list[dict[str, Any]]:
    """All keys of the Secrets for buckets, each source's under a prefix of its own.

    So no key can be a variable that a program heeds, and two sources may have different credentials.
    """
    return [
        {"prefix": credentials_prefix(index), "secretRef": source.credentials.to_wire()}
        for index, source in enumerate(_sources(config))
        if source.credentials is not None
    ]


def _secret(source: IngestedSource) -> SecretKey | None:
    """Of its server, or of its judge's endpoint."""
    if source.label_studio is not None:
        return source.label_studio.token_secret_ref
    judge = source.inference_log.judge if source.inference_log else None
    return judge.llm.api_key_secret_ref if judge and judge.llm else None


def _sources(config: StageConfig) -> list[IngestedSource]:
    return config.parameters.sources if isinstance(config.parameters, IngestParameters) else []


def _judges(config: StageConfig) -> dict[str, ComparisonJudge | None]:
    parameters = config.parameters
    if isinstance(parameters, JudgeParameters):
        return {"judge": parameters.judge}
    if isinstance(parameters, CompareParameters):
        return {"judge": parameters.judge, "comparisonJudge": parameters.comparison.judge}
    return {}

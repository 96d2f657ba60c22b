"""How many pods a Job has, and what becomes of it when one of them fails.

https://kubernetes.io/docs/concepts/workloads/controllers/job/
"""

from __future__ import annotations

from typing import Any

from alignment_api.stage import ExitCode, StageConfig

WORKER = "worker"


def layout(config: StageConfig, retries: int) -> dict[str, Any]:
    """Fields of the Job's spec.

    One pod, and shards each for itself, are retried by the Job controller. Shards that ran out of retries end the Job
    at once: the stage fails whatever the others do. Of several nodes, one that starts again would hang the others,
    so any failure fails the Job, a disruption too, and the planner decides on another attempt.
    """
    if config.nodes > 1:
        return _indexed(config.nodes) | {"backoffLimit": 0, "podFailurePolicy": {"rules": [_final()]}}
    retried = {"podFailurePolicy": {"rules": [_free(), _final()]}}
    if config.shards > 1:
        return _indexed(config.shards) | {"backoffLimitPerIndex": retries, "maxFailedIndexes": 0} | retried
    return {"backoffLimit": retries, **retried}


def _indexed(pods: int) -> dict[str, Any]:
    return {"completionMode": "Indexed", "completions": pods, "parallelism": pods}


def _free() -> dict[str, Any]:
    """The first rule that matches decides: a disruption costs no retry, even if the worker noticed and exited."""
    return {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def _final() -> dict[str, Any]:
    """What no retry mends.

    An input that is not there yet ends the Job too: the planner starts another attempt later, so that no pod
    holds an accelerator while it waits.
    """
    codes = [int(ExitCode.INPUT_MISSING), *range(64, 80)]
    return {
        "action": "FailJob",
        "onExitCodes": {"containerName": WORKER, "operator": "In", "values": codes},
    }

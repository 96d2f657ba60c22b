"""What becomes of a Job when its pod ends."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_operator.local.job_status import Ended, concluded

POLICY = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": "worker", "operator": "In", "values": [63, *range(64, 80)]},
        },
    ]
}


def job(failed: int = 0, limit: int | None = 2, policy: dict[str, Any] | None = POLICY) -> dict[str, Any]:
    spec: dict[str, Any] = {"podFailurePolicy": policy} if policy else {}
    if limit is not None:
        spec["backoffLimit"] = limit
    return {"metadata": {"name": "train", "namespace": "default"}, "spec": spec, "status": {"failed": failed}}


@pytest.mark.parametrize(
    ("failed", "ended", "expected"),
    [
        (0, Ended("p", 0), ("Complete", False, "CompletionsReached")),
        (0, Ended("p", 1), ("Retry", True, "")),
        (0, Ended("p", 137), ("Retry", True, "")),
        (2, Ended("p", 1), ("Failed", True, "BackoffLimitExceeded")),
        (0, Ended("p", 65), ("Failed", True, "PodFailurePolicy")),
        (0, Ended("p", 63), ("Failed", True, "PodFailurePolicy")),
        (2, Ended("p", 143, disrupted=True), ("Retry", False, "")),
        (0, Ended("p", 65, disrupted=True), ("Retry", False, "")),
        (0, Ended("p", 0, disrupted=True), ("Retry", False, "")),
        (0, Ended("p", 80), ("Retry", True, "")),
    ],
)
def test_the_failure_policy_decides(failed: int, ended: Ended, expected: tuple[str, bool, str]) -> None:
    conclusion = concluded(job(failed), ended)
    assert (conclusion.next, conclusion.counted, conclusion.reason) == expected


def test_a_failed_job_says_which_rule_failed_it() -> None:
    message = concluded(job(), Ended("train-x", 65)).message
    assert message == (
        "Container worker for pod default/train-x failed with exit code 65 matching FailJob rule at index 1"
    )


def test_a_rule_may_name_the_codes_that_it_does_not_match() -> None:
    rule = {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [1]}}
    policy = {"rules": [rule]}
    assert concluded(job(policy=policy), Ended("p", 2)).next == "Failed"
    assert concluded(job(policy=policy), Ended("p", 1)).next == "Retry"


def test_a_rule_that_counts_ends_the_search() -> None:
    count = {"action": "Count", "onExitCodes": {"operator": "In", "values": [65]}}
    policy = {"rules": [count, *POLICY["rules"]]}
    assert concluded(job(policy=policy), Ended("p", 65)).next == "Retry"


def test_without_a_policy_and_a_limit_six_failures_are_borne() -> None:
    assert concluded(job(5, None, None), Ended("p", 65)).next == "Retry"
    assert concluded(job(6, None, None), Ended("p", 65)).next == "Failed"


def test_waits_grow_between_retries() -> None:
    waits = [concluded(job(failed, limit=20), Ended("p", 1)).wait_seconds for failed in range(8)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]

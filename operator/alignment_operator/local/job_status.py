"""What the Job controller concludes when a pod ends: pure, and in its own words.

https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alignment_operator.api import Manifest

_DEFAULT_BACKOFF_LIMIT = 6
_FIRST_BACKOFF_SECONDS = 1.0  # the Job controller's 10 s would keep a person waiting
_LONGEST_BACKOFF_SECONDS = 60.0


@dataclass(frozen=True)
class Ended:
    """How a pod ended; `disrupted`: it carries the condition DisruptionTarget."""

    pod: str
    exit_code: int
    disrupted: bool = False


@dataclass(frozen=True)
class Conclusion:
    """What becomes of the Job: done, failed with a reason, or another pod after a wait."""

    next: Literal["Complete", "Failed", "Retry"]
    counted: bool = False  # the pod adds to status.failed
    reason: str = ""
    message: str = ""
    wait_seconds: float = 0.0


def concluded(job: Manifest, ended: Ended) -> Conclusion:
    if ended.exit_code == 0 and not ended.disrupted:
        return Conclusion("Complete", reason="CompletionsReached")
    failed = job.get("status", {}).get("failed", 0)
    spec = job["spec"]
    limit = spec.get("backoffLimitPerIndex", spec.get("backoffLimit", _DEFAULT_BACKOFF_LIMIT))
    for index, rule in enumerate(spec.get("podFailurePolicy", {}).get("rules", [])):
        matched = _matched(rule, ended)
        if matched is None:
            continue
        if rule["action"] == "Ignore":
            return Conclusion("Retry")
        if rule["action"] == "FailJob":
            where = f"{job['metadata']['namespace']}/{ended.pod}"
            failed_with = f"failed with exit code {ended.exit_code}"
            message = f"{matched} for pod {where} {failed_with} matching FailJob rule at index {index}"
            return Conclusion("Failed", counted=True, reason="PodFailurePolicy", message=message)
        break
    if failed + 1 > limit:
        message = "Job has reached the specified backoff limit"
        return Conclusion("Failed", counted=True, reason="BackoffLimitExceeded", message=message)
    wait = min(_FIRST_BACKOFF_SECONDS * 2**failed, _LONGEST_BACKOFF_SECONDS)
    return Conclusion("Retry", counted=True, wait_seconds=wait)


def _matched(rule: Manifest, ended: Ended) -> str | None:
    """What of the pod a rule matches, None if nothing."""
    for pattern in rule.get("onPodConditions", []):
        if pattern["type"] == "DisruptionTarget" and ended.disrupted:
            return "Pod condition DisruptionTarget"
    codes = rule.get("onExitCodes")
    if codes is None or codes.get("containerName", "worker") != "worker" or ended.exit_code == 0:
        return None
    listed = ended.exit_code in codes["values"]
    return "Container worker" if listed == (codes["operator"] == "In") else None

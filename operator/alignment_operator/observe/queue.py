"""What Kueue says of a Job that waits in its queue.

https://kueue.sigs.k8s.io/docs/concepts/workload/ and .../docs/tasks/troubleshooting/troubleshooting_jobs/
"""

from __future__ import annotations

from typing import Any

from alignment_api import names
from alignment_operator.api import WORKLOAD, Api, Manifest, NotFoundError, RefusedError


def queue_of(job: Manifest) -> str:
    """Empty if the Job is not Kueue's to start."""
    return str((job["metadata"].get("labels") or {}).get(names.LABEL_QUEUE, ""))


async def workload_of(api: Api, job: Manifest) -> Manifest | None:
    """What Kueue made of the Job. None too if it speaks another version, or if it is not for us to see."""
    metadata = job["metadata"]
    try:
        found = await api.list(WORKLOAD, metadata["namespace"], {names.LABEL_WORKLOAD_OF: metadata["uid"]})
    except (NotFoundError, RefusedError):
        return None
    return found[0] if found else None


def is_held(workload: Manifest | None) -> bool:
    """Whether it is not to be admitted, whoever said so."""
    return workload is not None and workload.get("spec", {}).get("active") is False


def is_held_by_us(workload: Manifest | None) -> bool:
    """Whether we made it inactive, and did not take that back."""
    annotations = (workload or {}).get("metadata", {}).get("annotations") or {}
    return names.ANNOTATION_HELD in annotations


def why_suspended(job: Manifest, workload: Manifest | None) -> str:
    """In Kueue's own words, as far as they can be read."""
    queue = queue_of(job)
    if not queue:
        return "the Job is suspended"
    return ": ".join([f"waits for admission in queue {queue}", *(_said(workload) if workload else ())])


def _said(workload: Manifest) -> list[str]:
    """Why it was evicted, if it was, and why no quota is reserved for it."""
    conditions: list[dict[str, Any]] = workload.get("status", {}).get("conditions") or []
    by_type = {each["type"]: each for each in conditions}
    telling = (("Evicted", "True"), ("QuotaReserved", "False"))
    return [
        by_type[type_]["message"]
        for type_, status in telling
        if by_type.get(type_, {}).get("status") == status and by_type[type_].get("message")
    ]

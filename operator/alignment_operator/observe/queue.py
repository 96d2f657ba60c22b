"""What Kueue says of a Job that waits in its queue.

https://kueue.sigs.k8s.io/docs/concepts/workload/ and .../docs/tasks/troubleshooting/troubleshooting_jobs/
"""

from __future__ import annotations

from typing import Any

from alignment_api import names
from alignment_operator.api import WORKLOAD, Api, Manifest, NotFoundError, RefusedError

LABEL_WORKLOAD_OF = "kueue.x-k8s.io/job-uid"


def queue_of(job: Manifest) -> str:
    """Empty if the Job is not Kueue's to start."""
    return str((job["metadata"].get("labels") or {}).get(names.LABEL_QUEUE, ""))


async def why_suspended(api: Api, job: Manifest) -> str:
    """In Kueue's own words, as far as they can be read: it may be another version, or not for us to see."""
    queue = queue_of(job)
    if not queue:
        return "the Job is suspended"
    metadata = job["metadata"]
    try:
        found = await api.list(WORKLOAD, metadata["namespace"], {LABEL_WORKLOAD_OF: metadata["uid"]})
    except (NotFoundError, RefusedError):
        found = []
    waits = f"waits for admission in queue {queue}"
    return ": ".join([waits, *(_said(found[0]) if found else ())])


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

"""Cycles by the thousand, in namespaces of a hundred."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.scale.bed import make_namespace
from tests.cluster.api import Json
from tests.cluster.client import Client

STAGES = ("sample", "judge", "train", "evaluate", "compare", "promote")
_A_NAMESPACE = 100
_AT_ONCE = 8
_CYCLES = "/apis/alignment.dev/v1alpha1"


def where(number: int) -> tuple[str, str]:
    """Namespace and name of a cycle. No name has a hyphen, so a Job's name up to its first one is its cycle's."""
    return f"team-{number // _A_NAMESPACE}", f"c{number}"


def make_namespaces(client: Client, count: int) -> None:
    """All that hold so many cycles."""
    for namespace in dict.fromkeys(where(number)[0] for number in range(count)):
        make_namespace(client, namespace)


def make_cycles(client: Client, count: int, *, run: bool) -> None:
    """With an iteration asked for, or idle."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda number: _make(client, number, run=run), range(count)))


def promoted(client: Client) -> int:
    """How many cycles have promoted a candidate."""
    return sum("promoted" in cycle.get("status", {}) for cycle in _cycles(client))


def looked_at(client: Client) -> int:
    """How many cycles have a status."""
    return sum("status" in cycle for cycle in _cycles(client))


def jobs_of_one(client: Client) -> Sequence[Json]:
    """What the operator made for the first cycle, in order, as it could be made again without it."""
    namespace, name = where(0)
    found = client.call("GET", f"/apis/batch/v1/namespaces/{namespace}/jobs")["items"]
    ours = {job["metadata"]["name"]: job for job in found if job["metadata"]["name"].startswith(f"{name}-")}
    return [_bare(job) for stage in STAGES for key, job in ours.items() if f"-{stage}-" in key]


def _cycles(client: Client) -> Sequence[Json]:
    items: list[Json] = []
    token = ""
    while True:
        page = client.call("GET", f"{_CYCLES}/alignmentcycles?limit=500&continue={token}")
        items += page["items"]
        token = page["metadata"].get("continue", "")
        if not token:
            return items


def _make(client: Client, number: int, *, run: bool) -> None:
    namespace, name = where(number)
    cycle: Json = {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "AlignmentCycle",
        "metadata": {"name": name, "annotations": {"alignment.dev/run": "1"} if run else {}},
        "spec": {
            "policy": {"model": "pvc://store/m0"},
            "store": {"uri": f"pvc://store/{name}"},
            "prompts": {"uri": "pvc://store/prompts"},
            "judge": {"verifier": {}},
            "evaluation": {
                "goldSet": {"uri": "pvc://store/gold"},
                "heldOutPrompts": {"uri": "pvc://store/held-out"},
                "comparison": {},
            },
        },
    }
    client.call("POST", f"{_CYCLES}/namespaces/{namespace}/alignmentcycles", cycle)


def _bare(job: Json) -> Json:
    """Without its owner, and what the server and the Job controller added."""
    metadata, spec, template = job["metadata"], job["spec"], job["spec"]["template"]
    kept = ("labels", "annotations")
    added = {
        "controller-uid",
        "job-name",
        "batch.kubernetes.io/controller-uid",
        "batch.kubernetes.io/job-name",
    }
    ours = {key: value for key, value in template["metadata"]["labels"].items() if key not in added}
    settled = {"selector", "ttlSecondsAfterFinished", "template"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": metadata["name"], **{key: metadata[key] for key in kept if key in metadata}},
        "spec": {
            **{key: value for key, value in spec.items() if key not in settled},
            "template": {**template, "metadata": {**template["metadata"], "labels": ours}},
        },
    }

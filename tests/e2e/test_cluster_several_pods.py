"""Sampling in shards and training over two nodes, with the real worker: one pod of each is killed on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.api import Json
from tests.cluster.bed import Bed
from tests.cluster.client import Namespace
from tests.cluster.processes import Child
from tests.cluster.waiting import wait_until
from tests.e2e.test_cluster_quickstart import MINUTES, ROOT, job_of, operator, stage, until

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

__all__ = ["operator"]  # the fixture

INDEX = "batch.kubernetes.io/job-completion-index"
PROMPTS = 60


def cycle() -> Json:
    """The quickstart's, smaller, over several pods."""
    path = ROOT / "examples" / "quickstart" / "cycle.yaml"
    manifest: Json = yaml.safe_load(path.read_text())
    spec: dict[str, Any] = manifest["spec"]
    spec["prompts"]["perIteration"] = PROMPTS
    spec["sampling"]["shards"] = 2
    spec["training"] |= {"nodes": 2, "perDeviceBatchSize": 4, "epochs": 5, "checkpointEverySteps": 2}
    return manifest


def pods_of(namespace: Namespace, job: str, index: int) -> list[Json]:
    return [pod for pod in namespace.pods_of(job) if pod["metadata"]["annotations"][INDEX] == str(index)]


def said(namespace: Namespace, job: str) -> list[Json]:
    """How the workers of a Job ended."""
    return [pod["status"]["containerStatuses"][0]["state"] for pod in namespace.pods_of(job)]


def kill(namespace: Namespace, job: str, index: int) -> None:
    """The one pod of that index, once it runs."""

    def running() -> str | None:
        pods = pods_of(namespace, job, index)
        return next(
            (pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Running"), None
        )

    name = wait_until(running, f"pod {index} of {job} runs", 5 * MINUTES)
    namespace.kubectl("annotate", "pod", name, "test-bed/oom-kill=worker")


@pytest.mark.timeout(1800)
def test_a_lost_shard_runs_again_alone_and_a_gang_goes_on_from_its_checkpoint(
    namespace: Namespace, bed: Bed, operator: Child
) -> None:
    namespace.kubectl("apply", "-f", str(ROOT / "examples/quickstart/assets.yaml"))
    namespace.apply(cycle())

    sampling = job_of(namespace, "quickstart", "sample")
    kill(namespace, sampling, 1)
    sampled = stage(
        until(namespace, "quickstart", lambda seen: stage(seen, "judge"), "it is sampled"), "sample"
    )
    assert (sampled["attempt"], sampled["retries"]) == (0, 1), said(namespace, sampling)
    assert sampled["result"]["counts"]["prompts"] == PROMPTS
    assert [len(pods_of(namespace, sampling, index)) for index in range(2)] == [1, 2]

    training = job_of(namespace, "quickstart", "train")
    claims = bed.folder / "node" / "claims" / namespace.name
    wait_until(lambda: _checkpoints(claims), "there is a checkpoint", 10 * MINUTES)
    kill(namespace, training, 1)
    again = until(
        namespace, "quickstart", lambda seen: stage(seen, "train")["attempt"] == 1, "it is tried again"
    )
    assert stage(again, "train")["failures"] == 1
    assert _checkpoints(claims), "it has something to go on from"
    trained = stage(
        until(namespace, "quickstart", lambda seen: stage(seen, "evaluate"), "it is trained"), "train"
    )
    assert (trained["attempt"], trained["failures"], trained["disruptions"]) == (1, 1, 0)
    assert trained["result"]["counts"]["epochs"] == 5
    assert not _checkpoints(claims)
    jobs = namespace.list("batch/v1", "jobs", "alignment.dev/stage=train")
    assert len(jobs) == 2

    namespace.kubectl("delete", "acyc", "quickstart")
    for version, kind in (("batch/v1", "jobs"), ("v1", "pods"), ("v1", "services")):
        _until_gone(namespace, version, kind)


def _checkpoints(claims: Path) -> list[Path]:
    return list(claims.glob("quickstart-store-*/**/train/checkpoints/step-*/manifest.json"))


def _until_gone(namespace: Namespace, version: str, kind: str) -> None:
    def gone() -> bool:
        return not namespace.list(version, kind, "alignment.dev/cycle=quickstart")

    wait_until(gone, f"all {kind} of the cycle are gone", 2 * MINUTES)

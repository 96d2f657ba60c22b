"""A server samples beside the worker, as a native sidecar on a real API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from alignment_worker import models
from alignment_worker.logprobs import log_probs
from tests.cluster.api import Json
from tests.cluster.bed import Bed
from tests.cluster.client import Namespace
from tests.cluster.processes import Child
from tests.e2e.test_cluster_quickstart import ROOT, operator, stage, until

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures"]

__all__ = ["operator"]  # the fixture

ASSETS = ROOT / "examples" / "quickstart" / "quickstart-assets"
PROMPTS = 24


def cycle(name: str, image: str) -> Json:
    """The quickstart's, with few prompts, sampled by such a server."""
    manifest: Json = yaml.safe_load((ROOT / "examples/quickstart/cycle.yaml").read_text())
    manifest["metadata"]["name"] = name
    spec: dict[str, Any] = manifest["spec"]
    spec["prompts"]["perIteration"] = PROMPTS
    spec["sampling"]["server"] = {"image": image, "args": ["--max-model-len", "256"]}
    return manifest


@pytest.mark.timeout(900)
def test_what_a_server_sampled_is_recorded_truly_and_judged(
    namespace: Namespace, bed: Bed, operator: Child
) -> None:
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    namespace.kubectl("label", "namespace", namespace.name, restricted)
    namespace.kubectl("apply", "-f", str(ROOT / "examples/quickstart/assets.yaml"))
    namespace.apply(cycle("served", "test-bed/completions:1"))
    namespace.apply(cycle("unserved", "no/such:1"))

    waiting = until(
        namespace,
        "unserved",
        lambda seen: "ImagePull" in stage(seen, "sample").get("message", ""),
        "it says why",
    )
    assert stage(waiting, "sample")["message"].startswith("server: ")
    assert stage(waiting, "sample")["state"] == "Pending"
    namespace.kubectl("delete", "acyc", "unserved")

    judged = until(namespace, "served", lambda seen: stage(seen, "train"), "it is sampled and judged")
    sampled = stage(judged, "sample")
    assert sampled["result"]["counts"]["prompts"] == PROMPTS
    assert stage(judged, "judge")["result"]["counts"]["judgements"] > 0
    (pod,) = namespace.pods_of(sampled["job"])
    (server,) = pod["status"]["initContainerStatuses"]
    assert "terminated" in server["state"], "it ends with the worker"
    namespace.kubectl("delete", "acyc", "served")

    claims = bed.folder / "node" / "claims" / namespace.name
    (file,) = claims.glob("quickstart-store-*/**/iterations/1/sample/run-*/samples.jsonl")
    check(file)


def check(file: Path) -> None:
    """That the recorded log-probabilities are the policy's own of the recorded ids."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    answers = [(row["prompt_ids"], answer) for row in rows for answer in row["completions"]]
    assert len(answers) == 6 * PROMPTS
    policy = models.load_policy("policy", ASSETS / "policy")
    fresh = log_probs(policy, [prompt for prompt, _ in answers], [answer["ids"] for _, answer in answers])
    for (_, answer), expected in zip(answers, fresh, strict=True):
        assert answer["log_probs"] == pytest.approx(expected, abs=2e-3)
    assert len({tuple(answer["ids"]) for _, answer in answers}) > PROMPTS, "it is a draw"

"""The flywheel turns once on a real API server, as examples/flywheel has it.

A model is served, people say what they think of its answers, and that alone starts an iteration; what it promotes is
served, and the next answer is logged under its digest. Label Studio and `transformers serve` are the real ones.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.api import Json
from tests.cluster.bed import Bed
from tests.cluster.client import Namespace
from tests.cluster.processes import Child, free_ports
from tests.cluster.waiting import wait_until
from tests.e2e.test_cluster_quickstart import ROOT, operator, targets_synced, until
from tests.label_studio.server import Server
from tests.recorder.recorder import logged

pytest_plugins = ["tests.cluster.fixtures", "tests.operator.edges_fixtures", "tests.label_studio.fixtures"]

__all__ = ["operator"]  # the fixture

EXAMPLE = ROOT / "examples" / "flywheel"
ASSETS = ROOT / "examples" / "quickstart" / "quickstart-assets"
DATASETS = ("alignment.dev/v1alpha1", "preferencedatasets")
EDITS = 74  # with the recorded pairs some fewer than the 500 that start the cycle; what people compare makes up for it
# The second answers are drawn anew each time: limits that no draw comes near, for it is the wheel that is tried here.
WIDE = {"minPercent: 50": "minPercent: 35", "maxIncreasePercent: 30": "maxIncreasePercent: 80"}
ASKED_TWICE = 40  # prompts whose second answer, where it is another one, makes an open pair


@dataclass
class Endpoint:
    """What users see: the Service's port."""

    url: str

    def post(self, path: str, body: Json) -> Json:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            said: Json = json.loads(answer.read() or b"{}")
        return said

    def ask(self, row: Json) -> Json:
        return self.post("/v1/chat/completions", {"messages": row["prompt"], "max_tokens": 64})

    def ask_for_a_draw(self, row: Json) -> Json:
        """`temperature` alone leaves `transformers serve` greedy."""
        settings = json.loads((ASSETS / "policy" / "generation_config.json").read_text()) | {
            "do_sample": True
        }
        body = {"messages": row["prompt"], "max_tokens": 64, "generation_config": json.dumps(settings)}
        return self.post("/v1/chat/completions", body)

    def say(self, answer: Json, **said: str) -> None:
        self.post("/v1/feedback", {"id": answer["id"], **said})


@dataclass
class Site:
    """The example on the test bed."""

    namespace: Namespace
    claims: Path
    endpoint: Endpoint

    def log(self) -> list[dict[str, Any]]:
        (folder,) = self.claims.glob("flywheel-log-*")
        return logged(folder)

    def ready(self) -> None:
        self.namespace.kubectl("rollout", "status", "deployment/flywheel", "--timeout=240s")

    def refreshed(self, number: int) -> Json:
        """The dataset's status with this revision in force."""

        def look(dataset: Json) -> bool:
            found = dataset.get("status", {})
            return bool(found.get("revision", {}).get("number") == number)

        status: Json = self.namespace.wait(*DATASETS, "production", look, f"revision {number}", 240)["status"]
        return status


def manifests(name: str, **replaced: str) -> list[Json]:
    """Of the example, on a machine without accelerators or cluster DNS."""
    text = (EXAMPLE / name).read_text()
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return list(yaml.safe_load_all(text))


def serving(port: int, server: int, metrics: int) -> list[Json]:
    """With the server that runs without an accelerator."""
    found = manifests("serving.yaml", **{"8000": str(port), "8001": str(server), "9090": str(metrics)})
    (container,) = found[-1]["spec"]["template"]["spec"]["containers"]
    container["image"] = "python"
    ((script,), vllm) = container["args"], 'vllm serve "$model" --served-model-name flywheel'
    assert vllm in script
    container["args"] = [script.replace(vllm, 'transformers serve "$model" --device cpu')]
    container["env"].append({"name": "HF_HUB_OFFLINE", "value": "1"})
    del container["resources"]
    return found


@pytest.fixture
def site(namespace: Namespace, bed: Bed) -> Iterator[Site]:
    namespace.kubectl("label", "namespace", namespace.name, "pod-security.kubernetes.io/enforce=restricted")
    ports = free_ports(3)
    namespace.kubectl("apply", "-f", str(ROOT / "examples/quickstart/assets.yaml"))
    namespace.kubectl("wait", "--for=condition=Complete", "--timeout=120s", "job/quickstart-assets")
    namespace.apply(*serving(*ports))
    yield Site(
        namespace, bed.folder / "node" / "claims" / namespace.name, Endpoint(f"http://127.0.0.1:{ports[0]}")
    )
    namespace.kubectl("delete", "deployment", "flywheel")


def right_answer(row: Json) -> str:
    """Numbers as they are; of the assets' patterns, the text that they look for."""
    return re.sub(r"\(\?.*?\)|\[\^.*?\]\*|\\[bD]\*?|[\\^]", "", row["answer"])


def said_in(log: list[dict[str, Any]]) -> int:
    return sum(row["kind"] == "feedback" for row in log)


def content(answer: Json) -> str:
    return str(answer["choices"][0]["message"]["content"])


def prompts() -> list[Json]:
    return [json.loads(line) for line in (ASSETS / "prompts.jsonl").read_text().splitlines()]


def traffic(endpoint: Endpoint) -> int:
    """A day's: some prompts are asked twice, thumbs go up and down, wrong answers are corrected.

    How often people said something.
    """
    twice, once = prompts()[:ASKED_TWICE], prompts()[ASKED_TWICE : ASKED_TWICE + 220]
    with ThreadPoolExecutor(4) as users:
        list(users.map(endpoint.ask_for_a_draw, (*twice, *twice)))
        answers = list(users.map(endpoint.ask, once))
    said = edits = 0
    for row, answer in zip(once, answers, strict=True):
        if right_answer(row) in content(answer):
            endpoint.say(answer, rating="up")
        elif edits < EDITS:
            endpoint.say(answer, rating="down", edit=right_answer(row) + ".")
            edits += 1
        else:
            continue
        said += 1
    assert edits == EDITS
    return said


def annotate(studio: Server, project: int) -> int:
    """A person prefers the right answer of each task, and skips those where neither or both are."""
    right = {row["prompt"][0]["content"]: right_answer(row) for row in prompts()}
    told = 0
    for task in studio.tasks(project):
        data = task["data"]
        wanted = right[data["prompt"].removeprefix("user: ")]
        found = [wanted in data[key] for key in ("answer_a", "answer_b")]
        selected = None if found[0] == found[1] else "left" if found[0] else "right"
        studio.annotate(int(task["id"]), selected)
        told += selected is not None
    return told


def used(site: Site, starting: Server) -> tuple[Server, int]:
    """A day's traffic is in the log; Label Studio, its empty project and the Secret are there."""
    site.ready()
    said = traffic(site.endpoint)
    studio = starting.ready()
    project = studio.new_project()
    token = f"--from-literal=token={studio.token}"
    site.namespace.kubectl("create", "secret", "generic", "label-studio", token)
    wait_until(lambda: said_in(site.log()) == said or None, "the log is complete", 120)
    return studio, project


@pytest.mark.timeout(900)
def test_what_users_say_of_answers_becomes_the_model_that_answers_them(
    starting_label_studio: Server, site: Site, operator: Child
) -> None:
    namespace, (studio, project) = site.namespace, used(site, starting_label_studio)
    assert {row["digest"] for row in site.log() if row["kind"] == "chat"} == {None}

    replaced = {"http://label-studio:8080": studio.url, "projectID: 1": f"projectID: {project}"}
    namespace.apply(*manifests("cycle.yaml", **WIDE), *manifests("dataset.yaml", **replaced))
    first = site.refreshed(1)
    assert first["pairs"] < 500
    compared = annotate(studio, project)
    assert first["pairs"] + compared >= 500, "what people compare starts the cycle"

    namespace.kubectl("annotate", "prefds", "production", "alignment.dev/run=annotated")
    second = site.refreshed(2)
    assert second["statistics"]["bySource"]["people"] == compared
    ended = until(namespace, "flywheel", lambda seen: seen.get("iteration", {}).get("outcome"), "it ends")
    assert ended["iteration"]["outcome"] == "Promoted", ended["iteration"]["gates"]
    until(namespace, "flywheel", targets_synced, "the target follows")
    promoted = ended["promoted"]
    served = namespace.get("v1", "configmaps", "flywheel-model")
    assert served is not None
    assert served["data"] == {"uri": promoted["uri"], "digest": promoted["digest"]}

    namespace.kubectl("rollout", "restart", "deployment/flywheel")
    site.ready()
    answer = site.endpoint.ask(prompts()[0])
    assert promoted["uri"].removeprefix("pvc://") in answer["model"], "the server's name is its folder"
    namespace.kubectl("scale", "deployment/flywheel", "--replicas=0")

    def last() -> Json | None:
        return next((row for row in site.log() if row["id"] == answer["id"]), None)

    assert wait_until(last, "the log is complete", 60)["digest"] == promoted["digest"]

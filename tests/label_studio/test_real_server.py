"""The client against Label Studio itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from alignment_api.judges import SecretKey
from alignment_api.sources import token_variable
from alignment_api.stage import (
    ExitCode,
    IngestedLog,
    IngestedProject,
    IngestedSource,
    IngestParameters,
    InputKind,
)
from alignment_worker.failures import InvalidConfigError
from alignment_worker.ingestion import label_studio
from alignment_worker.ingestion.label_studio_server import LabelStudio
from tests.label_studio.server import Server
from tests.worker import stages
from tests.worker.stages import Finished, an_input

pytest_plugins = ["tests.label_studio.fixtures"]

WHERE = "spec.sources[0].labelStudio"


@pytest.fixture
def server(label_studio_server: Server) -> Server:
    return label_studio_server


@pytest.fixture
def project(server: Server) -> int:
    return server.new_project(label_studio.TEMPLATE)


def client(server: Server, project: int) -> LabelStudio:
    return LabelStudio(server.url, server.token, project, WHERE)


def asked(number: int) -> dict[str, Any]:
    return {"prompt": f"question {number}", "answer_a": f"yes {number}", "answer_b": f"no {number}"}


def test_an_empty_project_gets_our_interface(server: Server) -> None:
    studio = client(server, server.new_project())
    assert label_studio.is_empty(studio.config())
    studio.set_config(label_studio.TEMPLATE)
    found = label_studio.interface(studio.config(), WHERE)
    assert found == label_studio.Interface("prompt", ("answer_a", "answer_b"), "preferred")


def test_tasks_are_read_page_by_page_while_others_change_them(server: Server, project: int) -> None:
    studio = client(server, project)
    studio.add([asked(number) for number in range(250)])
    assert studio.count() == 250
    seen = []
    for task in studio.tasks():
        seen.append(task["data"]["prompt"])
        if len(seen) == 50:
            server.annotate(int(task["id"]), "left")
            server.call("DELETE", f"/api/tasks/{task['id']}/")
    assert seen == [f"question {number}" for number in range(250)]


def test_only_what_changed_is_read_again(server: Server, project: int) -> None:
    studio = client(server, project)
    studio.add([asked(number) for number in range(5)])
    first, second, third, *_ = server.tasks(project)
    annotated = server.annotate(int(first["id"]), "left")
    since = server.tasks(project)[0]["updated_at"]
    assert [task["id"] for task in studio.tasks(since)] == [first["id"]]
    server.annotate(int(second["id"]), "right")
    server.change(annotated, "right")
    server.annotate(int(third["id"]), None)
    changed = list(studio.tasks(since))
    assert [task["id"] for task in changed] == [first["id"], second["id"], third["id"]]
    assert studio.now() <= changed[0]["updated_at"]


def test_each_annotator_says_something_and_who_skips_nothing(server: Server, project: int) -> None:
    studio = client(server, project)
    studio.add([asked(1)])
    (task,) = server.tasks(project)
    first = server.annotate(int(task["id"]), "right")
    second = server.annotate(int(task["id"]), "left")
    server.annotate(int(task["id"]), None)
    shown = label_studio.interface(studio.config(), WHERE)
    (found,) = studio.tasks()
    assert list(label_studio.judgements(found, shown)) == [
        {"prompt": "question 1", "chosen": "no 1", "rejected": "yes 1", "annotation": first},
        {"prompt": "question 1", "chosen": "yes 1", "rejected": "no 1", "annotation": second},
    ]
    server.change(first, "left")
    (found,) = studio.tasks()
    assert [said["annotation"] for said in label_studio.judgements(found, shown)] == [second, first]
    assert {said["chosen"] for said in label_studio.judgements(found, shown)} == {"yes 1"}


def test_a_token_or_a_project_that_is_not_there_is_told(server: Server, project: int) -> None:
    with pytest.raises(InvalidConfigError, match="tokenSecretRef"):
        LabelStudio(server.url, "nonsense", project, WHERE).count()
    with pytest.raises(InvalidConfigError, match="personal access token"):
        LabelStudio(server.url, "a.b.c", project, WHERE).count()
    with pytest.raises(InvalidConfigError, match="projectID: 999"):
        client(server, 999).count()


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ('<View><Text name="t" value="$t"/></View>', "0 Pairwise controls"),
        (
            '<View><Text name="a" value="$a"/><Pairwise name="p" toName="a,b"/></View>',
            "compares a, b, beside none",
        ),
        ("<View>", "no XML"),
    ],
)
def test_another_interface_is_told_what_it_lacks(config: str, told: str) -> None:
    with pytest.raises(InvalidConfigError, match=told):
        label_studio.interface(config, WHERE)


@dataclass
class Refreshes:
    """Of a dataset with a log and a project behind it."""

    folder: Path
    server: Server
    project: int
    last: Finished | None = None
    number: int = 0

    def log(self, *records: dict[str, Any]) -> None:
        path = self.folder / "log" / f"{len(list(self.folder.glob('log/*')))}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))

    def refresh(self) -> Finished:
        self.number += 1
        inputs = {"source/production": an_input(self.folder / "log", InputKind.INFERENCE_LOG)}
        if self.last is not None:
            inputs["base"] = an_input(self.last.folder, InputKind.STAGE, self.last.result.manifest.digest)
        project = IngestedProject(
            url=self.server.url,
            project=self.project,
            push_pairs=2,
            token_secret_ref=SecretKey(name="label-studio", key="token"),
        )
        sources = [
            IngestedSource(name="production", inference_log=IngestedLog(format="OpenAI")),
            IngestedSource(name="people", label_studio=project),
        ]
        config = stages.config(
            self.folder / "revisions" / str(self.number),
            inputs,
            IngestParameters(sources=sources),
            iteration=self.number,
        )
        done = stages.run(self.folder / "jobs", config)
        if done.code == 0:
            self.last = done
        return done


def chat(name: str, answer: str, question: str = "capital of France?") -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    return {
        "kind": "chat",
        "id": name,
        "request": {"messages": [{"role": "user", "content": question}]},
        "response": {"id": name, "choices": [choice]},
    }


def test_open_pairs_become_tasks_and_annotations_become_pairs(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(token_variable(1), server.token)
    dataset = Refreshes(tmp_path, server, server.new_project())
    dataset.log(chat("a", "Lyon"), chat("b", "Paris"), chat("c", "Nice"))
    dataset.log({"kind": "feedback", "id": "c", "rating": "down"})

    counts = dataset.refresh().result.counts
    assert (counts["openPairs"], counts["pushed"], counts["kept"]) == (1, 1, 1)
    (task,) = server.tasks(dataset.project)
    assert task["data"]["prompt"] == "user: capital of France?"
    assert dataset.refresh().result.counts["pushed"] == 0

    better = "left" if task["data"]["answer_a"] == "Paris" else "right"
    annotated = server.annotate(int(task["id"]), better)
    server.annotate(int(task["id"]), None)
    pairs = [row for row in dataset.refresh().rows("pairs.jsonl") if "chosen" in row]
    assert [
        (row["prompt"][0]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"])
        for row in pairs
    ] == [("capital of France?", "Paris", "Lyon")]
    assert (pairs[0]["source"], pairs[0]["file"], pairs[0]["line"]) == (
        "people",
        f"task {task['id']}",
        annotated,
    )

    server.change(annotated, "left" if better == "right" else "right")
    (changed,) = [row for row in dataset.refresh().rows("pairs.jsonl") if "chosen" in row]
    assert (changed["chosen"][0]["content"], changed["ordinal"]) == ("Lyon", pairs[0]["ordinal"] + 1)

    server.call("DELETE", f"/api/tasks/{task['id']}/")
    again = dataset.refresh()
    assert again.result.counts["pushed"] == 1
    assert not [row for row in again.rows("pairs.jsonl") if "chosen" in row]


def test_without_a_token_the_stage_says_where_it_comes_from(server: Server, tmp_path: Path) -> None:
    dataset = Refreshes(tmp_path, server, server.new_project())
    dataset.log(chat("a", "Lyon"))
    done = dataset.refresh()
    assert done.code == ExitCode.INVALID_CONFIG
    assert "spec.sources[1].labelStudio.tokenSecretRef" in done.failure.message

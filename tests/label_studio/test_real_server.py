"""The client against Label Studio itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from alignment_worker.failures import InvalidConfigError
from alignment_worker.ingestion import label_studio
from alignment_worker.ingestion.label_studio_server import LabelStudio
from tests.label_studio.server import Server

WHERE = "spec.sources[0].labelStudio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("label-studio")) as running:
        yield running


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

"""What the server of a labelling project may do to us: tokens that end, limits, faults, nonsense."""

from __future__ import annotations

import pytest

from alignment_worker.failures import InvalidConfigError, LabelStudioError
from alignment_worker.ingestion.label_studio_server import LabelStudio
from tests.cluster.processes import free_ports
from tests.label_studio.faulty import Answer, Faulty

WHERE = "spec.sources[0].labelStudio"
PERSONAL = "a.b.c"
PROJECT = (200, {"label_config": "<View/>", "task_number": 3})
ACCESS = (200, {"access": "x"})


def client(server: Faulty, token: str = "legacy") -> LabelStudio:
    return LabelStudio(server.url, token, 3, WHERE, backoff_seconds=0.0)


@pytest.mark.parametrize("fault", [(429, {}), (500, b"<html>"), (502, b""), (503, {})])
def test_faults_that_pass_are_waited_for(fault: Answer) -> None:
    with Faulty(fault, fault, PROJECT) as server:
        assert client(server).count() == 3
        assert len(server.asked) == 3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_faults_that_stay_are_another_attempts(status: int) -> None:
    with (
        Faulty((status, {"detail": "down"})) as server,
        pytest.raises(LabelStudioError, match=rf"{status}.*down"),
    ):
        client(server).count()


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, r"tokenSecretRef: http://\S+ refuses the token \(401\)"),
        (403, "tokenSecretRef"),
        (404, "projectID: 3"),
    ],
)
def test_what_a_person_has_to_mend_is_told(status: int, told: str) -> None:
    with Faulty((status, {})) as server, pytest.raises(InvalidConfigError, match=told):
        client(server).count()


def test_access_that_has_ended_is_bought_again() -> None:
    with Faulty(ACCESS, PROJECT, (401, {}), ACCESS, PROJECT) as server:
        studio = client(server, PERSONAL)
        assert (studio.count(), studio.count()) == (3, 3)
        assert [asked for asked in server.asked if "token" in asked] == ["POST /api/token/refresh/"] * 2


def test_a_personal_token_that_was_revoked_is_told() -> None:
    with Faulty((401, {})) as server, pytest.raises(InvalidConfigError, match="personal access token"):
        client(server, PERSONAL).count()
    with Faulty(ACCESS, PROJECT, (401, {})) as server:
        studio = client(server, PERSONAL)
        studio.count()
        with pytest.raises(InvalidConfigError, match="personal access token"):
            studio.count()


PAGE = {"tasks": [{"id": number} for number in range(1, 101)]}


@pytest.mark.parametrize(
    "body", [b"<html>welcome</html>", [1], {"tasks": 3}, {"tasks": [3]}, {"tasks": [{"id": "x"}]}, PAGE]
)
def test_what_is_no_label_studio_is_told(body: object) -> None:
    with Faulty((200, body)) as server, pytest.raises(LabelStudioError, match=r"labelStudio\.url"):
        list(client(server).tasks())


def test_a_server_that_is_not_there_is_told() -> None:
    (port,) = free_ports(1)
    studio = LabelStudio(f"http://127.0.0.1:{port}", "legacy", 3, WHERE, backoff_seconds=0.0)
    with pytest.raises(LabelStudioError, match="cannot be reached"):
        studio.count()


def test_a_url_that_is_none_is_told() -> None:
    with pytest.raises(InvalidConfigError, match=r"labelStudio\.url: 'http://\['"):
        LabelStudio("http://[", "legacy", 3, WHERE).count()

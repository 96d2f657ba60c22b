"""Progress and metrics over HTTP: what is told, to whom, and that no stage fails for it."""

from __future__ import annotations

import json
import socket
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

import pytest
from prometheus_client.parser import text_string_to_metric_families

from alignment_api.stage import Stage
from alignment_api.telemetry import ADDRESS_VARIABLE
from alignment_worker.progress import Progress
from alignment_worker.telemetry import served
from tests.cluster.processes import free_ports

_get = build_opener(ProxyHandler({})).open  # never through a proxy of this machine


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> str:
    (port,) = free_ports(1)
    monkeypatch.setenv(ADDRESS_VARIABLE, f"127.0.0.1:{port}")
    return f"http://127.0.0.1:{port}"


def scraped(address: str) -> dict[str, float]:
    text = _get(f"{address}/metrics").read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: sample.value for sample in samples if sample.labels.get("stage") == "judge"}


def test_progress_is_that_of_the_running_part(address: str) -> None:
    progress = Progress()
    with served(Stage.JUDGE, progress):
        progress.begin(8, "judgements")
        progress.advance(2)
        told = json.loads(_get(f"{address}/progress").read())
    assert told["host"] == socket.gethostname()
    assert (told["done"], told["total"], told["unit"]) == (2, 8, "judgements")
    assert told["secondsLeft"] >= 0


def test_metrics_count_the_whole_stage_and_name_it(address: str) -> None:
    progress = Progress()
    with served(Stage.JUDGE, progress):
        progress.begin(4, "judgements")
        progress.advance(1)
        progress.count("judgements", 7)
        progress.count("tokens", 3)
        found = scraped(address)
    assert found == {
        "alignment_worker_judgements_total": 7,
        "alignment_worker_tokens_total": 3,
        "alignment_worker_steps_total": 0,
        "alignment_worker_progress_ratio": 0.25,
    }


def test_nothing_else_is_served(address: str) -> None:
    with served(Stage.JUDGE, Progress()), pytest.raises(HTTPError, match="404"):
        _get(f"{address}/etc/passwd")


def test_it_is_over_with_the_stage(address: str) -> None:
    with served(Stage.JUDGE, Progress()):
        pass
    with pytest.raises(OSError, match="refused"):
        _get(f"{address}/progress")


@pytest.mark.parametrize("wrong", ["192.0.2.1:80", "nowhere", "127.0.0.1:http", "TAKEN"])
def test_an_address_that_cannot_be_had_is_said_and_the_stage_goes_on(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}" if wrong == "TAKEN" else wrong
        monkeypatch.setenv(ADDRESS_VARIABLE, place)
        with served(Stage.JUDGE, Progress()):
            pass
    assert f"served at {place}" in capsys.readouterr().err

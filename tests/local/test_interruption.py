"""Signals at `alignctl run`, at the warm worker and at a stage: nothing is lost and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.local.commands import DEADLINE_SECONDS, Alignctl

Manifest = dict[str, Any]
StandIn = Callable[..., Path]


def until(condition: Callable[[], Any]) -> Any:
    """What the condition says as soon as it says anything."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_SECONDS} s: {condition}")


def pids(stand_in: StandIn, stage: str) -> list[int]:
    """Of the runs of a stage so far."""
    ran = stand_in() / f"{stage}.ran"
    lines = ran.read_text().splitlines() if ran.exists() else []
    return [int(line.split()[0]) for line in lines if line]


def gone(pid: int) -> bool:
    """A zombie has ended too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_in_order_and_the_same_command_goes_on(
    alignctl: Alignctl, stand_in: StandIn, number: signal.Signals
) -> None:
    stand_in("train", {"hang": True})
    first = alignctl.run()
    (stage,) = until(lambda: pids(stand_in, "train"))
    worker = parent_of(stage)
    first.send_signal(number)
    _, errors = first.communicate(timeout=DEADLINE_SECONDS)
    assert first.returncode == 130
    assert "error: stopped; to go on where it stopped: alignctl run -f" in errors
    assert "Traceback" not in errors
    assert gone(stage)
    assert gone(worker)
    job = alignctl.cycle()["status"]["iteration"]["stages"][-1]["job"]
    again = alignctl.run()
    assert again.wait(DEADLINE_SECONDS) == 0
    iteration = alignctl.cycle()["status"]["iteration"]
    train = next(stage for stage in iteration["stages"] if stage["name"] == "train")
    assert (iteration["number"], iteration["outcome"], train["job"]) == (1, "Promoted", job)
    assert len(pids(stand_in, "sample")) == 1
    assert len(pids(stand_in, "train")) == 2


def test_killed_alignctl_takes_its_worker_along_and_the_same_command_goes_on(
    alignctl: Alignctl, stand_in: StandIn
) -> None:
    stand_in("train", {"hang": True})
    first = alignctl.run()
    (stage,) = until(lambda: pids(stand_in, "train"))
    worker = parent_of(stage)
    first.kill()
    until(lambda: gone(stage) and gone(worker))
    again = alignctl.run()
    assert again.wait(DEADLINE_SECONDS) == 0
    iteration = alignctl.cycle()["status"]["iteration"]
    assert (iteration["number"], iteration["outcome"]) == (1, "Promoted")
    assert len(pids(stand_in, "sample")) == 1


@pytest.mark.parametrize("victim", ["stage", "warm process"])
def test_a_killed_worker_counts_as_a_failure_and_is_replaced(
    alignctl: Alignctl, stand_in: StandIn, victim: str
) -> None:
    stand_in("train", {"hang": True})
    running = alignctl.run()
    (stage,) = until(lambda: pids(stand_in, "train"))
    os.kill(stage if victim == "stage" else parent_of(stage), signal.SIGKILL)
    assert running.wait(DEADLINE_SECONDS) == 0
    assert gone(stage)
    (job,) = (alignctl.state / "objects" / "jobs" / "default").glob("assistant-1-train-*.json")
    assert json.loads(job.read_text())["status"]["failed"] == 1
    assert len(pids(stand_in, "train")) == 2


def test_a_second_run_is_refused_with_the_process_that_has_the_folder(
    alignctl: Alignctl, stand_in: StandIn
) -> None:
    stand_in("sample", {"hang": True})
    first = alignctl.run()
    until(lambda: pids(stand_in, "sample"))
    second = alignctl.run()
    _, errors = second.communicate(timeout=DEADLINE_SECONDS)
    assert second.returncode == 1
    assert f"alignctl (process {first.pid}) is already running here" in errors


def test_a_verb_reaches_the_run_that_is_going_on(alignctl: Alignctl, stand_in: StandIn) -> None:
    stand_in("train", {"hang": True})
    running = alignctl.run()
    (stage,) = until(lambda: pids(stand_in, "train"))
    cancel = alignctl.start("cancel", "assistant")
    assert cancel.wait(DEADLINE_SECONDS) == 0
    assert running.wait(DEADLINE_SECONDS) == 1
    assert gone(stage)
    assert alignctl.cycle()["status"]["iteration"]["outcome"] == "Cancelled"


def test_an_iteration_that_was_left_can_be_cancelled_without_running(
    alignctl: Alignctl, stand_in: StandIn
) -> None:
    stand_in("train", {"hang": True})
    first = alignctl.run()
    until(lambda: pids(stand_in, "train"))
    first.send_signal(signal.SIGINT)
    first.wait(DEADLINE_SECONDS)
    assert alignctl.start("cancel", "assistant").wait(DEADLINE_SECONDS) == 0
    assert alignctl.cycle()["status"]["iteration"]["outcome"] == "Cancelled"
    assert not list((alignctl.state / "objects" / "jobs" / "default").glob("*-train-*.json"))


def test_a_refresh_that_was_stopped_is_not_begun_twice(
    alignctl: Alignctl, stand_in: StandIn, dataset: Manifest
) -> None:
    alignctl.manifest.write_text(yaml.safe_dump(dataset))
    stand_in("ingest", {"hang": True})
    first = alignctl.run()
    until(lambda: pids(stand_in, "ingest"))
    first.send_signal(signal.SIGINT)
    first.wait(DEADLINE_SECONDS)
    assert alignctl.run().wait(DEADLINE_SECONDS) == 0
    assert len(pids(stand_in, "ingest")) == 2
    path = alignctl.state / "objects" / "preferencedatasets" / "default" / "feedback.json"
    assert json.loads(path.read_text())["status"]["ingestNumber"] == 1

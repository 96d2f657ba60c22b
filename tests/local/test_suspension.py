"""`spec.suspend` and `spec.trigger` without a cluster."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from alignment_operator.api import CYCLE
from alignment_operator.local.directory import Directory
from tests.local.commands import DEADLINE_SECONDS, Alignctl

Manifest = dict[str, Any]
StandIn = Callable[..., Path]


def write(alignctl: Alignctl, cycle: Manifest, **spec: Any) -> Manifest:
    changed = {**cycle, "spec": {**cycle["spec"], **spec}}
    alignctl.manifest.write_text(yaml.safe_dump(changed))
    return changed


def stages_run(stand_in: StandIn) -> list[str]:
    """A line for every run of every stage."""
    return sorted(file.stem for file in stand_in().glob("*.ran") for _ in file.read_text().splitlines())


def until_train_runs(stand_in: StandIn) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while "train" not in stages_run(stand_in):
        assert time.monotonic() < deadline, stages_run(stand_in)
        time.sleep(0.02)


def test_a_suspended_cycle_starts_nothing_and_says_so(
    alignctl: Alignctl, stand_in: StandIn, cycle: Manifest
) -> None:
    write(alignctl, cycle, suspend=True)
    done = alignctl.ended("run", "-f", str(alignctl.manifest))
    assert done.returncode == 4, done.stderr
    assert (
        "assistant is suspended, and nothing starts. Set spec.suspend to false, then: alignctl run"
        in done.stdout
    )
    assert "iteration" not in alignctl.cycle()["status"]
    assert stages_run(stand_in) == []
    write(alignctl, cycle, suspend=False)
    assert alignctl.ended("run", "-f", str(alignctl.manifest)).returncode == 0


def test_one_that_is_suspended_while_it_runs_ends_its_worker_and_goes_on_later(
    alignctl: Alignctl, stand_in: StandIn, cycle: Manifest
) -> None:
    stand_in("train", {"hang": True})
    running = alignctl.run()
    until_train_runs(stand_in)
    Directory(alignctl.state).put(CYCLE, write(alignctl, cycle, suspend=True))
    output, errors = running.communicate(timeout=DEADLINE_SECONDS)
    assert (running.returncode, "Traceback" in errors) == (4, False), errors
    assert "assistant is suspended" in output
    train = alignctl.cycle()["status"]["iteration"]["stages"][-1]
    assert (train["name"], train["state"], train["reason"]) == ("train", "Pending", "Suspended")
    write(alignctl, cycle, suspend=False)
    assert alignctl.ended("run", "-f", str(alignctl.manifest)).returncode == 0
    iteration = alignctl.cycle()["status"]["iteration"]
    assert [stage["attempt"] for stage in iteration["stages"]] == [0] * len(iteration["stages"])
    assert stages_run(stand_in).count("train") == 2
    assert stages_run(stand_in).count("sample") == 1


def test_a_trigger_starts_nothing_here_and_a_bad_one_is_refused(
    alignctl: Alignctl, stand_in: StandIn, cycle: Manifest
) -> None:
    write(alignctl, cycle, trigger={"schedule": "* * * * *"})
    done = alignctl.ended("run", "-f", str(alignctl.manifest), "-o", "json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)["status"]
    assert status["iteration"]["trigger"] == "Manual"
    assert "nextRunAt" not in status
    write(alignctl, cycle, trigger={"schedule": "0 0 30 2 *"})
    refused = alignctl.ended("run", "-f", str(alignctl.manifest))
    assert refused.returncode == 2
    assert 'spec.trigger.schedule: "0 0 30 2 *": is not a cron schedule: Bad day-of-month' in refused.stderr

"""`alignctl status -w` says how far the running stage is, and where, for both ways of running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alignment_operator.local.files import run_lock
from tests.cli.command import PROGRAM
from tests.cli.conftest import Alignctl

SECONDS = 30.0
PROGRESS = {"done": 85, "total": 345, "unit": "prompts", "secondsLeft": 26, "node": "gpu-1"}


def write(state: Path, kind: str, manifest: dict[str, Any]) -> None:
    path = state / "objects" / kind / "team" / f"{manifest['metadata']['name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(manifest))
    new.replace(path)


def cycle(**stage: Any) -> dict[str, Any]:
    stages = [{"name": "sample", "state": "Running", "job": "support-1-sample-0", **stage}]
    return {
        "apiVersion": "alignment.dev/v1alpha1",
        "kind": "AlignmentCycle",
        "metadata": {
            "name": "support",
            "namespace": "team",
            "uid": "u",
            "resourceVersion": "1",
            "creationTimestamp": "2026-11-23T03:00:00Z",
        },
        "status": {"iteration": {"number": 1, "stages": stages}},
    }


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    write(tmp_path, "alignmentcycles", cycle(progress=PROGRESS))
    argv = [sys.executable, "-c", PROGRAM, "status", "support", "-w", "--state", str(tmp_path)]
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    # Where the tests run in the background, Ctrl-C may be ignored, and whoever is started would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with run_lock(tmp_path), subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
        signal.signal(signal.SIGINT, before)
        yield process
        process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


@pytest.mark.timeout(SECONDS)
def test_each_change_is_told_once_and_ctrl_c_ends_it(watch: subprocess.Popen[str], tmp_path: Path) -> None:
    assert line_of(watch) == (
        "support: iteration 1: sample Running 85/345 prompts, 10/s, 26 s left, on gpu-1"
    )
    write(tmp_path, "alignmentcycles", cycle(progress=PROGRESS | {"done": 344, "secondsLeft": 1}))
    assert line_of(watch) == ("support: iteration 1: sample Running 344/345 prompts, 1/s, 1 s left, on gpu-1")
    watch.send_signal(signal.SIGINT)
    assert watch.wait() == 130


def test_in_a_folder_it_is_read_from_the_workers_own_file(alignctl: Alignctl, tmp_path: Path) -> None:
    write(tmp_path, "alignmentcycles", cycle())
    metadata: dict[str, Any] = {"name": "p", "namespace": "team", "uid": "v", "resourceVersion": "1"}
    metadata |= {"labels": {"job-name": "support-1-sample-0"}}
    write(tmp_path, "pods", {"metadata": metadata, "status": {"phase": "Running"}})
    file = tmp_path / "jobs" / "p" / "progress.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"done": 5, "total": 9, "unit": "prompts", "seconds_left": 2.0, "detail": ""}))
    with run_lock(tmp_path):
        shown = alignctl("status", "support", "--state", tmp_path).stdout
    assert "iteration 1: running" in shown
    assert "5/9 prompts, 2/s, 2 s left, on " in shown


def test_an_iteration_that_no_process_runs_is_shown_as_stopped(alignctl: Alignctl, tmp_path: Path) -> None:
    write(tmp_path, "alignmentcycles", cycle(startedAt="2026-11-23T03:00:00Z"))
    with run_lock(tmp_path):
        pass
    shown = alignctl("status", "support", "--state", tmp_path).stdout
    assert "iteration 1: stopped; go on with the same `alignctl run`" in shown
    assert next(line.split() for line in shown.splitlines() if line.startswith("sample")) == [
        *("sample", "stopped", "0")
    ]
    assert " stopped " in alignctl("status", "--state", tmp_path).stdout


def test_it_does_not_go_with_an_output_format(alignctl: Alignctl) -> None:
    done = alignctl("status", "-w", "-o", "json")
    assert done.returncode == 2
    assert "get -w" in done.stderr

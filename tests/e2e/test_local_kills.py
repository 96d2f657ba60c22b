"""The real worker under `alignctl run`: each stage killed once, and the command itself stopped and killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.small import assets, least

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart"
MANIFEST = QUICKSTART / "cycle.yaml"
STAGES = ["sample", "judge", "train", "evaluate", "compare"]
DECIDED = {0, 3, 4}
DEADLINE_SECONDS = 800.0

pytestmark = pytest.mark.timeout(1700)


class Run:
    """`alignctl run` of a small iteration, and its processes."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self._manifest = folder / "cycle.yaml"
        self._manifest.write_text(yaml.safe_dump(small(folder / "quickstart-assets")))
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        command = [str(Path(sys.prefix) / "bin" / "alignctl"), "run", "-f", str(self._manifest)]
        self.process = subprocess.Popen(
            [*command, "--state", str(self.state)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return self.process

    def running_stage(self) -> tuple[str, int] | None:
        """Name and process of the stage that runs."""
        assert self.process is not None
        grandchildren = [stage for worker in children(self.process.pid) for stage in children(worker)]
        pods = sorted((self.state / "jobs").glob("*"), key=lambda pod: pod.stat().st_mtime)
        if not grandchildren or not pods or not (pods[-1] / "log").exists():
            return None  # what torch starts while it is imported is no stage
        return json.loads((pods[-1] / "stage.json").read_text())["stage"], grandchildren[0]

    def iteration(self) -> dict[str, Any]:
        path = self.state / "objects" / "alignmentcycles" / "default" / "quickstart.json"
        found: dict[str, Any] = json.loads(path.read_text())["status"]["iteration"]
        return found

    def failures(self, stage: str) -> int:
        (job,) = (self.state / "objects" / "jobs" / "default").glob(f"quickstart-1-{stage}-*.json")
        failed: int = json.loads(job.read_text())["status"]["failed"]
        return failed

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def small(folder: Path) -> dict[str, Any]:
    """The quickstart with little data; what it decides does not matter here."""
    assets(folder, gold=12, heldout=12, prompts=24)
    cycle: dict[str, Any] = yaml.safe_load(MANIFEST.read_text())
    cycle["spec"]["training"] |= {"epochs": 2, "perDeviceBatchSize": 4, "checkpointEverySteps": 1}
    least(cycle["spec"])
    return cycle


def children(pid: int) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def until(condition: Callable[[], Any]) -> Any:
    """What the condition says as soon as it says anything."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_SECONDS} s")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    made.end()


def test_every_stage_may_be_killed_once(run: Run) -> None:
    process = run.start()
    killed: list[str] = []

    def look() -> bool:
        seen = run.running_stage()
        if seen and seen[0] not in killed:
            with suppress(ProcessLookupError):
                os.kill(seen[1], signal.SIGKILL)
                killed.append(seen[0])
        return process.poll() is not None

    until(look)
    output, _ = process.communicate()
    assert process.returncode in DECIDED, output
    assert killed[:5] == STAGES
    assert [run.failures(stage) for stage in STAGES] == [1] * 5
    assert [stage["state"] for stage in run.iteration()["stages"]][:5] == ["Succeeded"] * 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_command_may_be_stopped_in_training_and_goes_on(run: Run, number: signal.Signals) -> None:
    first = run.start()

    def trained() -> bool:
        """A checkpoint is complete, and the stage still runs."""
        return any(run.state.rglob("train/checkpoints/*/manifest.json"))

    until(trained)
    _, stage = until(run.running_stage)
    first.send_signal(number)
    output, _ = first.communicate(timeout=DEADLINE_SECONDS)
    until(lambda: not Path(f"/proc/{stage}").exists())
    if number == signal.SIGINT:
        assert first.returncode == 130
        assert "to go on where it stopped" in output
    assert run.iteration()["stages"][-1]["state"] != "Failed"
    second = run.start()
    output, _ = second.communicate(timeout=DEADLINE_SECONDS)
    assert second.returncode in DECIDED, output
    iteration = run.iteration()
    assert iteration["number"] == 1
    assert [stage["state"] for stage in iteration["stages"]][:5] == ["Succeeded"] * 5

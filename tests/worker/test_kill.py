"""SIGKILL at any moment, and two at once: one manifest or none, and the next attempt finishes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alignment_api import digests
from alignment_api.stage import StageConfig
from alignment_worker.store import SealedFolder
from tests.worker import tiny
from tests.worker.loop import Loop
from tests.worker.serving import Server
from tests.worker.stages import Finished

STAGES = ("sample", "judge", "evaluate", "compare", "promote", "ingest")
KILLS = 4


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, llama: Path, other_llama: Path, reward: Path) -> Loop:
    """An iteration whose stages have all run once."""
    loop = Loop(tmp_path_factory.mktemp("template"), llama, other_llama, reward)
    loop.run(loop.judge(loop.run(loop.sample())))
    loop.run(loop.evaluate())
    return loop


def configs(template: Loop, stage: str, output: Path) -> StageConfig:
    """The stage's config, to a store of its own."""
    makers: dict[str, Callable[[], StageConfig]] = {
        "sample": template.sample,
        "judge": lambda: template.judge(template.run(template.sample())),
        "evaluate": template.evaluate,
        "compare": lambda: template.compare(template.run(template.evaluate())),
        "promote": template.promote,
        "ingest": lambda: template.ingest(tiny.pair_rows(50)),
    }
    made = makers[stage]()
    parameters = made.parameters
    if stage == "promote":
        parameters = parameters.model_copy(update={"cycle_prefix": f"file://{output}"})
    return made.model_copy(update={"output": f"file://{output}/{stage}", "parameters": parameters})


def sound(folder: Path) -> None:
    """Every file that the manifest names is there with its digest, and nothing else."""
    sealed = SealedFolder.open(folder)
    files = {
        file.relative_to(folder).as_posix(): digests.of_file(file)
        for file in folder.rglob("*")
        if file.is_file()
    }
    del files["manifest.json"]
    assert files == sealed.manifest["files"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_at_any_moment_is_finished_by_the_next_attempt(
    stage: str, server: Server, template: Loop, tmp_path: Path
) -> None:
    started = time.monotonic()
    _, undisturbed = server.run(tmp_path / "job", configs(template, stage, tmp_path / "undisturbed"))
    seconds = time.monotonic() - started
    draw = random.Random(stage)
    made = configs(template, stage, tmp_path / "killed")
    folder = tmp_path / "killed" / stage
    for _ in range(KILLS):
        request = server.begin(tmp_path / "job", made)
        time.sleep(draw.uniform(0, seconds))  # the moment is the point; nothing is waited for
        with contextlib.suppress(ProcessLookupError):  # it was quicker
            os.kill(request.pid, signal.SIGKILL)
        assert server.exit_of(request) in {-signal.SIGKILL, 0}
        if (folder / "manifest.json").exists():
            SealedFolder.open(folder)
    _, done = server.run(tmp_path / "job", made)
    assert done.code == 0
    sound(folder)
    assert content(done) == content(undisturbed)
    for name, measured in undisturbed.result.measurements.items():
        # A sum of floats depends on where in memory they lie: the last digit of a report may be another.
        assert done.result.measurements[name].to_wire() == pytest.approx(measured.to_wire(), rel=2e-3), name
    _, again = server.run(tmp_path / "job", made)
    assert again.report == done.report
    if stage == "promote":
        assert len(list((tmp_path / "killed" / "ledger").iterdir())) == 1


def content(done: Finished) -> object:
    """What was computed, wherever it is."""
    manifest = json.loads((done.folder / "manifest.json").read_bytes())
    return done.result.counts, set(done.result.measurements), manifest["files"]


@pytest.mark.parametrize("stage", STAGES)
def test_two_at_once_yield_one_manifest(stage: str, server: Server, template: Loop, tmp_path: Path) -> None:
    made = configs(template, stage, tmp_path / "store")
    requests = [server.begin(tmp_path / f"job-{number}", made) for number in range(2)]
    first, second = (server.finish(request) for request in requests)
    assert first.code == second.code == 0
    assert first.report == second.report
    sound(tmp_path / "store" / stage)


def test_a_finished_stage_is_reported_without_its_inputs(
    server: Server, template: Loop, tmp_path: Path
) -> None:
    made = configs(template, "ingest", tmp_path / "store")
    _, done = server.run(tmp_path / "job", made)
    (template.folder / "data" / "people.jsonl").unlink()
    _, again = server.run(tmp_path / "job", made)
    assert again.report == done.report

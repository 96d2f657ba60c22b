"""A training over several processes: real ones, as torchrun starts them, on this machine or as the pods of a Job."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from alignment_api.stage import InputKind, StageConfig, StageReport, TrainParameters
from alignment_worker import gang
from alignment_worker.failures import InvalidConfigError
from alignment_worker.main import main
from tests.cluster.processes import free_ports
from tests.worker import training
from tests.worker.training import Finished

DEADLINE_SECONDS = 400

# Its whole node is gone behind the checkpoint of step 4: the launcher, and with it its ranks.
LOSES_ITS_NODE = """
import os, signal, sys
from alignment_worker import main, train_checkpoints

keep = train_checkpoints.Checkpoints.keep

def keep_and_die(self, step, write):
    keep(self, step, write)
    if step == 4:
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()

train_checkpoints.Checkpoints.keep = keep_and_die
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, InputKind]]:
    folder = tmp_path_factory.mktemp("gang")
    start = training.llama(folder / "start")
    judge = training.sealed(folder / "judge", "pairs.jsonl", training.sampled_pairs(32))
    return {
        "start": (start, InputKind.MODEL),
        "reference": (start, InputKind.MODEL),
        "pairs": (judge, InputKind.STAGE),
    }


def config(inputs: dict[str, tuple[Path, InputKind]], output: Path, **settings: object) -> StageConfig:
    made = training.training(checkpoint_every_steps=2, **settings)
    return training.config(output, inputs, TrainParameters(training=made))


@dataclass
class Node:
    """One pod of a Job over two nodes."""

    process: subprocess.Popen[bytes]
    folder: Path

    def end(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    @property
    def report(self) -> StageReport:
        return StageReport.decode((self.folder / "report").read_text())


def nodes(made: StageConfig, folder: Path, first: tuple[str, ...] = ("-m", "alignment_worker")) -> list[Node]:
    """Both pods; `first` is what Python runs in the one of index 0."""
    (port,) = free_ports(1)
    found = []
    for index in range(2):
        words = [*training.arguments(made, folder / f"pod-{index}"), "--coordinator", f"localhost:{port}"]
        module = first if index == 0 else ("-m", "alignment_worker")
        environment = os.environ | {"OMP_NUM_THREADS": "1", "JOB_COMPLETION_INDEX": str(index)}
        process = subprocess.Popen([sys.executable, *module, *words], env=environment)
        found.append(Node(process, folder / f"pod-{index}"))
    return found


def losses(done: Finished) -> list[float]:
    return [step["loss"] for step in done.steps]


@dataclass(frozen=True)
class Together:
    """A training over two nodes that nothing disturbed."""

    config: StageConfig
    reports: list[StageReport]
    done: Finished


@pytest.fixture(scope="module")
def together(inputs: dict[str, tuple[Path, InputKind]], tmp_path_factory: pytest.TempPathFactory) -> Together:
    folder = tmp_path_factory.mktemp("together")
    made = config(inputs, folder / "store", nodes=2)
    both = nodes(made, folder)
    assert [node.end() for node in both] == [0, 0]
    reports = [node.report for node in both]
    return Together(made, reports, Finished(0, reports[0], folder / "store"))


def test_two_nodes_train_as_one_process_does_with_the_same_batch(
    inputs: dict[str, tuple[Path, InputKind]], together: Together, tmp_path: Path
) -> None:
    made = config(inputs, tmp_path / "alone", gradient_accumulation_steps=2)
    alone = training.finish(made, tmp_path / "job")
    assert losses(together.done) == pytest.approx(losses(alone), abs=1e-5)
    result, other = together.reports[0].result, alone.report.result
    assert result is not None
    assert other is not None
    assert result.counts == other.counts
    assert together.reports[1].part == 1


@pytest.mark.parametrize(("method", "near"), [("IPO", 1e-5), ("KTO", 1e-2), ("BestOfN", 1e-5)])
def test_every_method_trains_in_two_processes_as_in_one(
    method: str, near: float, inputs: dict[str, tuple[Path, InputKind]], tmp_path: Path
) -> None:
    """But for KTO's KL: two processes estimate it from both their batches, one from each of them."""
    pairs = training.sealed(tmp_path / "judge", training.file_for(method), training.sampled_pairs(32))
    own = inputs | {"pairs": (pairs, InputKind.STAGE)}
    two, one = (
        training.finish(config(own, tmp_path / name, method=method, **settings), tmp_path / f"job-{name}")
        for name, settings in (
            ("two", {"processes_per_node": 2}),
            ("one", {"gradient_accumulation_steps": 2}),
        )
    )
    assert (two.code, one.code) == (0, 0)
    assert losses(two) == pytest.approx(losses(one), abs=near)


def test_any_pod_of_a_gang_finds_what_is_sealed(
    together: Together, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    again = training.finish(together.config, tmp_path / "job")
    assert again.report.result == together.reports[0].result


def test_a_gang_that_lost_a_node_goes_on_from_the_last_checkpoint_on_one_machine_too(
    inputs: dict[str, tuple[Path, InputKind]], together: Together, tmp_path: Path
) -> None:
    script = tmp_path / "loses_its_node.py"
    script.write_text(LOSES_ITS_NODE)
    made = config(inputs, tmp_path / "killed", nodes=2)
    lost, left = nodes(made, tmp_path, first=("-c", _launching(script)))
    assert lost.end() == -signal.SIGKILL
    assert left.end() != 0
    assert (tmp_path / "killed" / "checkpoints" / "step-4" / "manifest.json").exists()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    resumed = training.finish(made, tmp_path / "job-resumed")
    assert losses(resumed) == pytest.approx(losses(together.done), abs=1e-6)


def _launching(script: Path) -> str:
    """The worker, whose ranks run a script in the worker's place."""
    return f"""
import sys
from torch.distributed import run as torchrun
from alignment_worker.main import main

run = torchrun.run

def run_script(arguments):
    arguments.module, arguments.training_script = False, {str(script)!r}
    run(arguments)

torchrun.run = run_script
sys.exit(main(sys.argv[1:]))
"""


def test_what_a_rank_says_of_a_fault_is_what_its_pod_says(
    inputs: dict[str, tuple[Path, InputKind]], tmp_path: Path
) -> None:
    few = training.sealed(tmp_path / "judge", "pairs.jsonl", [])
    made = config(inputs | {"pairs": (few, InputKind.STAGE)}, tmp_path / "out", processes_per_node=2)
    done_code = main(training.arguments(made, tmp_path / "job"))
    report = StageReport.decode((tmp_path / "job" / "report").read_text())
    assert report.failure is not None
    assert (done_code, report.failure.reason) == (69, "TooFewPairs")


def test_one_of_several_nodes_must_be_told_where_they_meet(
    inputs: dict[str, tuple[Path, InputKind]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(inputs, tmp_path / "out", nodes=2)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    with pytest.raises(InvalidConfigError, match="--coordinator"):
        gang.to_launch(made, "")
    assert gang.to_launch(made, "first:29500") == gang.Gang(2, 1, 1, "first:29500")
    monkeypatch.delenv("JOB_COMPLETION_INDEX")
    assert gang.to_launch(made, "") == gang.Gang(1, 0, 2, "")


def test_one_process_launches_nothing(inputs: dict[str, tuple[Path, InputKind]], tmp_path: Path) -> None:
    assert gang.to_launch(config(inputs, tmp_path / "out"), "") is None
    assert gang.gathered("mine") == ["mine"]
    assert gang.rank() == 0

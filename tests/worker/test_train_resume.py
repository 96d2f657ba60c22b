"""A training that is killed goes on where it was, and comes to the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from alignment_api.cycle import Lora
from alignment_api.stage import InputKind, StageConfig, StageReport, TrainParameters
from alignment_worker import train_config
from tests.worker import training

LORA = Lora(rank=4, alpha=8, dropout=0.2)

# Dies by SIGKILL behind the checkpoint of step 10, or in the midst of writing that of step 15.
KILLED = """
import os, signal, sys
from alignment_worker import main, train_checkpoints

moment = sys.argv.pop(1)
keep = train_checkpoints.Checkpoints.keep

def keep_and_die(self, step, write):
    def write_and_die(folder):
        write(folder)
        if (moment, step) == ("inside", 15):
            os.kill(os.getpid(), signal.SIGKILL)
    keep(self, step, write_and_die)
    if (moment, step) == ("behind", 10):
        os.kill(os.getpid(), signal.SIGKILL)

train_checkpoints.Checkpoints.keep = keep_and_die
sys.exit(main.main(sys.argv[1:]))
"""

# Gets SIGTERM in the midst of training.
STOPPED = KILLED.replace("signal.SIGKILL", "signal.SIGTERM")


def config(folder: Path, output: Path, lora: Lora | None, method: str = "DPO") -> StageConfig:
    """Of 24 steps."""
    start = folder / "start"
    judge = folder / "judge"
    if not start.exists():
        training.llama(start)
        training.sealed(judge, training.file_for(method), training.sampled_pairs())
    settings = training.training(
        method=method,
        lora=lora,
        epochs=4 if method == "KTO" else 8,  # which has two rows of a pair
        checkpoint_every_steps=5,
        gradient_accumulation_steps=2,
    )
    inputs = {
        "start": (start, InputKind.MODEL),
        "reference": (start, InputKind.MODEL),
        "pairs": (judge, InputKind.STAGE),
    }
    return training.config(output, inputs, TrainParameters(training=settings))


def exit_of(script: str, moment: str, made: StageConfig, folder: Path) -> int:
    words = [sys.executable, "-c", script, moment, *training.arguments(made, folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=600, env=environment)
    print(done.stderr)
    return done.returncode


@pytest.mark.parametrize(
    ("method", "moment", "lora"),
    [
        ("DPO", "behind", None),
        ("DPO", "inside", LORA),
        ("KTO", "inside", LORA),
        ("BestOfN", "behind", None),
    ],
)
def test_killed_and_started_again_it_ends_as_if_nothing_had_been(
    method: str, moment: str, lora: Lora | None, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    made = config(tmp_path, tmp_path / "killed", lora, method)
    assert exit_of(KILLED, moment, made, tmp_path / "first") == -signal.SIGKILL
    checkpoints = tmp_path / "killed" / "checkpoints"
    assert (checkpoints / "step-10" / "manifest.json").exists()
    assert not (checkpoints / "step-15").exists()

    again = training.finish(made, tmp_path / "second")
    straight = training.finish(config(tmp_path, tmp_path / "straight", lora, method), tmp_path / "third")
    assert (again.code, straight.code) == (0, 0)
    assert len(again.steps) == 24
    assert again.steps == straight.steps
    assert (again.model / "model.safetensors").read_bytes() == (
        straight.model / "model.safetensors"
    ).read_bytes()
    assert {path.name for path in again.folder.iterdir()} == {"manifest.json", again.run_folder.name}


def test_told_to_stop_it_stops_and_says_so(tmp_path: Path) -> None:
    made = config(tmp_path, tmp_path / "stopped", None)
    assert exit_of(STOPPED, "behind", made, tmp_path / "job") == 128 + signal.SIGTERM
    report = StageReport.decode((tmp_path / "job" / "report").read_text())
    assert report.failure is not None
    assert report.failure.reason == "Interrupted"
    assert not list((tmp_path / "stopped").glob("run-*"))
    assert (tmp_path / "stopped" / "checkpoints" / "step-10").exists()


def test_a_training_in_another_precision_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Auto is what the machine has."""
    made = config(tmp_path, tmp_path / "killed", None)
    assert exit_of(KILLED, "behind", made, tmp_path / "first") == -signal.SIGKILL
    monkeypatch.setattr(train_config, "computed_in", lambda _training: torch.bfloat16)
    again = training.finish(made, tmp_path / "second")
    monkeypatch.undo()
    straight = training.finish(config(tmp_path, tmp_path / "straight", None), tmp_path / "third")
    assert (again.code, straight.code) == (0, 0)
    assert again.steps[:10] != straight.steps[:10]

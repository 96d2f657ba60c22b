"""A reward model's training that is killed goes on where it was, and comes to the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.worker import rewarding, stages
from tests.worker.test_train_resume import KILLED


def test_killed_and_started_again_it_ends_as_if_nothing_had_been(tmp_path: Path, llama: Path) -> None:
    pairs = {"people": rewarding.separable(64)}
    made = rewarding.config(tmp_path, llama, pairs, checkpoint_every_steps=5)
    words = [sys.executable, "-c", KILLED, "behind", *stages.argv(tmp_path / "first", made)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    killed = subprocess.run(words, check=False, capture_output=True, text=True, timeout=600, env=environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (tmp_path / "reward" / "checkpoints" / "step-10" / "manifest.json").exists()

    again = stages.run(tmp_path / "second", made)
    straight_made = made.model_copy(update={"output": (tmp_path / "straight").as_uri()})
    straight = stages.run(tmp_path / "third", straight_made)
    assert again.result.counts["steps"] == 24
    assert again.rows("training-log.jsonl") == straight.rows("training-log.jsonl")
    assert again.result.model is not None
    assert straight.result.model is not None
    assert again.result.model.digest == straight.result.model.digest
    assert again.result.measurements == straight.result.measurements

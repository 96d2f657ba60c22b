"""A training over several processes: real ones, as torchrun starts them, on this machine or as the pods of a Job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from alignment_api.cycle import Lora
from alignment_api.stage import InputKind, StageConfig, StageReport, TrainParameters
from alignment_worker import gang, train_sharding, train_zero3
from alignment_worker.failures import InvalidConfigError
from alignment_worker.main import main
from alignment_worker.train_columns import share
from tests.cluster.processes import free_ports
from tests.worker import training
from tests.worker.ranks import Ranks
from tests.worker.training import Finished

DEADLINE_SECONDS = 400
DIVIDED = ("FSDP", "ZeRO3")

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


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with Ranks() as warm:
        yield warm


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


def norms(done: Finished) -> list[float]:
    return [step["gradientNorm"] for step in done.steps]


def same_weights(done: Finished, other: Finished, *, near: float) -> bool:
    mine, theirs = (load_file(each.model / "model.safetensors") for each in (done, other))
    assert mine.keys() == theirs.keys()
    return all(torch.allclose(mine[name], theirs[name], atol=near) for name in mine)


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


@pytest.mark.parametrize(
    ("method", "near", "shardings"), [("IPO", 1e-5, ()), ("KTO", 1e-2, ()), ("BestOfN", 1e-5, DIVIDED)]
)
def test_every_method_trains_in_two_processes_as_in_one_divided_or_not(
    method: str,
    near: float,
    shardings: tuple[str, ...],
    inputs: dict[str, tuple[Path, InputKind]],
    ranks: Ranks,
    tmp_path: Path,
) -> None:
    """But for KTO's KL: two processes estimate it from both their batches, one from each of them.

    DPO and KTO are divided by the other tests. Most gradients are clipped.
    """
    pairs = training.sealed(tmp_path / "judge", training.file_for(method), training.sampled_pairs(32))
    own = inputs | {"pairs": (pairs, InputKind.STAGE)}
    common = {"method": method, "arguments": {"max_grad_norm": 0.5}}
    two, *divided = (
        ranks.train(
            config(own, tmp_path / way, processes_per_node=2, sharding=way, **common), tmp_path / f"job-{way}"
        )
        for way in ("None", *shardings)
    )
    alone = config(own, tmp_path / "one", gradient_accumulation_steps=2, **common)
    one = training.finish(alone, tmp_path / "job-one")
    assert (two.code, one.code) == (0, 0)
    assert losses(two) == pytest.approx(losses(one), abs=near)
    for each in divided:
        assert losses(each) == pytest.approx(losses(two), abs=1e-5)
        assert norms(each) == pytest.approx(norms(two), abs=1e-5)
        assert max(norms(each)) > 0.5
        assert same_weights(each, two, near=1e-5)


# Says what rank 0 holds of weights and optimizer, and dies behind the checkpoint of step 4.
DIES_DIVIDED = """
import json, os, signal, sys
from pathlib import Path
from alignment_worker import main, train_checkpoints, train_sharding

held, gathered, keep = Path(sys.argv.pop(1)), train_sharding.gathered_state, train_checkpoints.Checkpoints.keep

def numbers(tensors):
    return sum(train_sharding.own_part(each).numel() for each in tensors)

def gathered_and_counted(model, optimizer):
    state = [each for moments in optimizer.state.values() for each in moments.values() if each.ndim]
    held.write_text(json.dumps([numbers(model.parameters()), numbers(state)]))
    return gathered(model, optimizer)

def keep_and_die(self, step, write):
    keep(self, step, write)
    if step == 4:
        os.kill(os.getpid(), signal.SIGKILL)

train_sharding.gathered_state = gathered_and_counted
train_checkpoints.Checkpoints.keep = keep_and_die
sys.exit(main.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("sharding", DIVIDED)
def test_a_divided_training_dies_and_ends_as_an_undivided_one(
    sharding: str, inputs: dict[str, tuple[Path, InputKind]], together: Together, tmp_path: Path
) -> None:
    script, held = tmp_path / "dies_divided.py", tmp_path / "held"
    script.write_text(DIES_DIVIDED)
    made = config(inputs, tmp_path / "out", processes_per_node=2, sharding=sharding)
    launcher = [
        sys.executable,
        "-c",
        _launching(script, str(held)),
        *training.arguments(made, tmp_path / "first"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(launcher, check=False, env=environment, timeout=DEADLINE_SECONDS)
    assert done.returncode == 128 + signal.SIGKILL
    assert (tmp_path / "out" / "checkpoints" / "step-4" / "manifest.json").exists()
    weights, moments = json.loads(held.read_text())

    resumed = training.finish(made, tmp_path / "again")
    assert losses(resumed) == pytest.approx(losses(together.done), abs=1e-5)
    assert same_weights(resumed, together.done, near=1e-5)
    stored = load_file(resumed.model / "model.safetensors")
    parameters = sum(each.numel() for each in stored.values())
    assert weights < 0.6 * parameters
    assert moments < 0.6 * 2 * parameters


# Says how many bytes the weights of a rank take, of whatever model, and dies behind the checkpoint of step 4.
DIES = """
import gc, os, signal, torch
from pathlib import Path
from alignment_worker import train_sharding
from alignment_worker.train_checkpoints import Checkpoints

keep = Checkpoints.keep

def keep_and_die(self, step, write):
    keep(self, step, write)
    if step == 4:
        gc.collect()
        weights = [each for each in gc.get_objects() if isinstance(each, torch.nn.Parameter)]
        parts = map(train_sharding.own_part, weights)
        Path(HELD).write_text(str(sum(min(each.nbytes, each.untyped_storage().nbytes()) for each in parts)))
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoints.keep = keep_and_die
"""


def test_adapters_on_a_divided_model_train_as_on_a_whole_one_and_go_on_when_they_were_killed(
    inputs: dict[str, tuple[Path, InputKind]], ranks: Ranks, tmp_path: Path
) -> None:
    """The last step of an epoch sums fewer batches than the others."""
    start, reference = (
        training.qwen(tmp_path / name, seed=seed, dtype=torch.float32)
        for seed, name in enumerate(("start", "other"))
    )
    own = inputs | {"start": (start, InputKind.MODEL), "reference": (reference, InputKind.MODEL)}
    settings: dict[str, Any] = {
        "method": "KTO",
        "lora": Lora(rank=4, alpha=8, dropout=0.1),
        "gradient_accumulation_steps": 3,
        "processes_per_node": 2,
    }
    whole = ranks.train(config(own, tmp_path / "whole", **settings), tmp_path / "job-whole")
    assert whole.report.result is not None
    parameters = whole.report.result.counts["parameters"]
    for sharding in DIVIDED:
        made = config(own, tmp_path / sharding, **settings, sharding=sharding)
        held = tmp_path / f"held-{sharding}"
        killed = ranks.train(made, tmp_path / f"job-{sharding}", script=f"HELD = {str(held)!r}\n{DIES}")
        assert killed.code == -signal.SIGKILL
        assert int(held.read_text()) < 0.8 * 4 * parameters  # the reference is gone
        each = ranks.train(made, tmp_path / f"again-{sharding}")
        assert losses(each) == pytest.approx(losses(whole), abs=1e-5)
        assert norms(each) == pytest.approx(norms(whole), abs=1e-5)
        assert same_weights(each, whole, near=1e-5)
        assert each.report.result is not None
        assert each.report.result.counts == whole.report.result.counts


# One rank's gradients break in step 6, with a loss that says nothing.
BREAKS = """
from alignment_worker.train_trainer import ResumableTrainer as Trainer

step = Trainer.training_step

def break_and_step(self, model, inputs, *others):
    if rank == 1 and self.state.global_step == 5:
        compute_loss = self.compute_loss
        self.compute_loss = lambda *few, **named: broken(compute_loss(*few, **named))
    return step(self, model, inputs, *others)

def broken(loss):
    loss.register_hook(lambda gradient: gradient * float("nan"))
    return loss

Trainer.training_step = break_and_step
"""


def test_a_divided_training_that_diverges_goes_back_to_its_last_sound_checkpoint(
    inputs: dict[str, tuple[Path, InputKind]], ranks: Ranks, tmp_path: Path
) -> None:
    whole, *divided = (
        ranks.train(
            config(inputs, tmp_path / sharding, processes_per_node=2, sharding=sharding),
            tmp_path / f"job-{sharding}",
            script=BREAKS,
        )
        for sharding in ("None", *DIVIDED)
    )
    for each in (whole, *divided):
        assert each.report.result is not None
        counts = each.report.result.counts
        assert (counts["steps"], counts["divergedAtStep"]) == (4, 6)
        assert same_weights(each, whole, near=1e-5)


RECOMPUTES = """
from alignment_worker import train_config

train_config.must_recompute = lambda *_: True
"""


def test_a_divided_training_that_recomputes_activations_in_bf16_ends_near_one_that_does_neither(
    inputs: dict[str, tuple[Path, InputKind]], together: Together, ranks: Ranks, tmp_path: Path
) -> None:
    """ZeRO-3 computes with the very numbers of an undivided training in BF16, and sums its gradients in FP32."""
    whole, fsdp, zero3 = (
        ranks.train(
            config(inputs, tmp_path / way, processes_per_node=2, sharding=way, precision="BF16"),
            tmp_path / f"job-{way}",
            script=RECOMPUTES,
        )
        for way in ("None", *DIVIDED)
    )
    for each in (fsdp, zero3):
        assert losses(each) == pytest.approx(losses(together.done), abs=1e-3)
        assert losses(each) != pytest.approx(losses(together.done), abs=1e-6)  # it is BF16
    assert norms(zero3)[0] == pytest.approx(norms(whole)[0], abs=1e-6)


def test_a_weight_that_cannot_be_divided_evenly_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "gang")
    weight = torch.nn.Parameter(torch.empty(0))
    weight.ds_id, weight.ds_numel, weight.ds_tensor = 0, 5, torch.empty(2)
    held = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        held.append(train_sharding.own_part(weight).numel())
        assert (
            train_zero3.part_of(torch.arange(5.0), weight).tolist() == [[0, 1], [2, 3], [4, 0], [0, 0]][rank]
        )
    assert held == [2, 2, 1, 0]


@pytest.mark.parametrize("sharding", DIVIDED)
def test_one_process_has_nobody_to_divide_a_model_with(
    sharding: str, inputs: dict[str, tuple[Path, InputKind]], tmp_path: Path
) -> None:
    done = training.finish(config(inputs, tmp_path / "out", sharding=sharding), tmp_path / "job")
    assert done.report.failure is not None
    assert (done.code, done.report.failure.reason) == (64, "InvalidConfig")
    assert f"training.sharding: {sharding} divides a model among processes" in done.report.failure.message


def test_a_model_of_unknown_layers_is_not_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "gang")
    monkeypatch.setenv("WORLD_SIZE", "2")
    divided = training.training(sharding="FSDP")
    with torch.device("meta"):
        unknown = AutoModelForCausalLM.from_config(GPT2Config(n_layer=1, n_embd=32, n_head=2))
        known = AutoModelForCausalLM.from_config(LlamaConfig(num_hidden_layers=1, hidden_size=32))
    with pytest.raises(InvalidConfigError, match="does not know the layers of GPT2LMHeadModel; write ZeRO3"):
        train_sharding.layout(divided, unknown)
    found = train_sharding.layout(divided, known)
    assert found is not None
    assert found.fsdp_size == 2
    assert not found.fsdp_mixed_precision
    assert train_sharding.layout(training.training(), unknown) is None
    assert train_sharding.layout(training.training(sharding="ZeRO3"), unknown) is None  # it needs no names


def test_every_process_computes_as_many_batches_and_none_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "gang")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        shares.append(share([[0], [1], [2], [3]], 3))
    assert [len(each) for each in shares] == [2, 2, 2]
    assert {batch[0] for each in shares for batch in each} == {0, 1, 2, 3}
    assert share([], 3) == []


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


def _launching(script: Path, *words: str) -> str:
    """The worker, whose ranks run a script in the worker's place, with these words before its own."""
    return f"""
import sys
from torch.distributed import run as torchrun
from alignment_worker.main import main
from alignment_worker.train_columns import share

run = torchrun.run

def run_script(arguments):
    arguments.module, arguments.training_script = False, {str(script)!r}
    arguments.training_script_args[:0] = {words!r}
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

"""A gang: processes, on one node or several, that compute one stage together. torchrun starts them and ends them.

https://docs.pytorch.org/docs/stable/elastic/run.html
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from alignment_api.stage import StageConfig, StageFailure, StageReport, TrainParameters
from alignment_worker.failures import Interrupted, InvalidConfigError
from alignment_worker.shards import INDEX_VARIABLE

_STARTED_BY_TORCHRUN = "TORCHELASTIC_RUN_ID"

T = TypeVar("T")


@dataclass(frozen=True)
class Gang:
    """`node` of `nodes`, each with so many processes; `coordinator` is HOST:PORT of node 0, empty if there is one."""

    nodes: int
    node: int
    processes: int
    coordinator: str


def member() -> bool:
    """Whether torchrun started this process."""
    return _STARTED_BY_TORCHRUN in os.environ


def rank() -> int:
    """Which of its gang this process is; 0 if it is alone."""
    return int(os.environ["RANK"]) if member() else 0


def size() -> int:
    """How many processes the gang has; 1 if this one is alone."""
    return int(os.environ["WORLD_SIZE"]) if member() else 1


def to_launch(config: StageConfig, coordinator: str) -> Gang | None:
    """None if this process computes: alone, or as one of a gang that is launched already.

    When nobody says which node this is, all nodes' processes run here: the training is the same.
    Raises InvalidConfigError if the pod is one of several and was not told where they meet.
    """
    parameters = config.parameters
    if member() or not isinstance(parameters, TrainParameters):
        return None
    training = parameters.training
    if parameters.online:
        return None  # it samples as it trains, in one process
    processes = training.processes_per_node or _accelerators()
    if training.nodes * processes == 1:
        return None
    index = os.environ.get(INDEX_VARIABLE)
    if training.nodes == 1 or index is None:
        return Gang(1, 0, training.nodes * processes, "")
    if not coordinator:
        raise InvalidConfigError("--coordinator: is required with several nodes: HOST:PORT of the first")
    return Gang(training.nodes, int(index), processes, coordinator)


def _accelerators() -> int:
    import torch  # noqa: PLC0415 - heavy, and only training asks

    return max(1, int(torch.cuda.device_count()))


def launch(gang: Gang, words: Sequence[str]) -> tuple[int, StageReport]:
    """Run `alignment_worker WORDS` in every process of this node: exit code and report of the first that failed, or
    of the first of all. Raises Interrupted.
    """
    from torch.distributed import run as torchrun  # noqa: PLC0415 - heavy, as above
    from torch.distributed.elastic.multiprocessing import SignalException  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        report = f"{folder}/report-${{local_rank}}"  # torchrun fills it in
        arguments = torchrun.parse_args(
            [*_options(gang), "-m", "alignment_worker", *words, "--report", report]
        )
        try:
            torchrun.run(arguments)
        except ChildFailedError as error:
            _, failure = error.get_first_failure()
            code = failure.exitcode if failure.exitcode >= 0 else 128 - failure.exitcode
            return code, _said(Path(folder), failure.local_rank) or _silent(failure)
        except SignalException as error:
            raise Interrupted from error
        return 0, _said(Path(folder), 0) or StageReport(part=gang.node)


def _options(gang: Gang) -> list[str]:
    each = ["--nproc-per-node", str(gang.processes), "--max-restarts", "0"]
    if not gang.coordinator:
        return ["--standalone", *each]
    host, _, port = gang.coordinator.rpartition(":")
    where = ["--nnodes", str(gang.nodes), "--node-rank", str(gang.node)]
    return [*where, "--master-addr", host, "--master-port", port, *each]


def _said(folder: Path, local_rank: int) -> StageReport | None:
    file = folder / f"report-{local_rank}"
    return StageReport.decode(file.read_text()) if file.exists() else None


def _silent(failure: Any) -> StageReport:
    ended = f"exit code {failure.exitcode}"
    if failure.exitcode < 0:
        ended = f"signal {signal.Signals(-failure.exitcode).name}"
    message = f"process {failure.local_rank} of this node ended with {ended} before it could say why"
    return StageReport(failure=StageFailure(reason="Crashed", message=message))


def gathered(value: T) -> list[T]:
    """What every process of the gang has, in the order of ranks."""
    distributed = _distributed()
    if distributed is None:
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def of_first(value: T) -> T:
    """What the first process has."""
    return gathered(value)[0]


def leave() -> None:
    """Nothing more is gathered: the first goes on alone, and the others end."""
    distributed = _distributed()
    if distributed is not None:
        distributed.destroy_process_group()


def _distributed() -> Any:
    """None if this process is alone. A gang's processes are connected when the trainer's settings are made."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_initialized():
        return None
    return torch.distributed

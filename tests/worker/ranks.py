"""Gangs whose processes are forked from one that is warm: torchrun's compute alike, and start slowly."""

from __future__ import annotations

import json
import os
from pathlib import Path

from alignment_api.stage import StageConfig, StageReport
from alignment_worker import serve
from alignment_worker.main import main
from tests.cluster.processes import free_ports
from tests.worker import training
from tests.worker.serving import Server
from tests.worker.training import Finished


class Ranks(Server):
    """Started at once; ended with `with`."""

    def __init__(self) -> None:
        super().__init__("-m", "tests.worker.ranks")

    def train(self, made: StageConfig, folder: Path, *, processes: int = 2, script: str = "") -> Finished:
        """All of them run `script` before the stage. The code is that of the first by rank that failed."""
        (port,) = free_ports(1)
        requests = []
        for rank in range(processes):
            gang = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            meeting = {"TORCHELASTIC_RUN_ID": "gang", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
            environment = {name: str(value) for name, value in (gang | meeting).items()}
            words = training.arguments(made, folder / str(rank))
            requests.append(self.start([json.dumps(environment), script, *words], folder / str(rank) / "log"))
        codes = [self.exit_of(request) for request in requests]
        report = folder / "0" / "report"
        said = StageReport.decode(report.read_text()) if report.exists() else StageReport(part=0)
        return Finished(next(filter(None, codes), 0), said, Path(made.output.removeprefix("file://")))


def _serve() -> int:
    os.environ["DS_ACCELERATOR"] = "cpu"
    import deepspeed  # noqa: PLC0415, F401 - once for all

    def rank(argv: list[str]) -> int:
        environment, script, *words = argv
        os.environ.update(json.loads(environment))
        exec(script, {"rank": int(os.environ["RANK"])})
        return main(words)

    vars(serve)["main"] = rank
    return serve.serve([])


if __name__ == "__main__":
    os._exit(_serve())  # the interpreter's own end complains of what DeepSpeed loaded

"""Stands in for `alignment_worker` where only the machinery around it is tested: the same protocol, no torch.

What each run of a stage does is read from $STAND_IN, a folder: STAGE.json holds a list of {"exit", "failure", "signal",
"hang", "lengthRatio"}, one for each run in turn; after the last, and without the file, the stage succeeds. STAGE.ran
holds a line for every run. This file is copied to alignment_worker/__main__.py of a folder on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any

from alignment_api import digests
from alignment_api.measurements import GOLD, LENGTH_RATIO, TRUNCATED_CHANGE, TRUNCATED_SHARE, Measurement
from alignment_api.stage import (
    SIGNED,
    WORK,
    Located,
    Stage,
    StageConfig,
    StageFailure,
    StageReport,
    StageResult,
)


def main() -> None:
    if sys.argv[1:2] != ["serve"]:
        sys.exit(stage(sys.argv[1:]))
    requests = iter(sys.stdin.readline, "")
    for line in requests:
        request = json.loads(line)
        run(request)


def run(request: dict[str, Any]) -> None:
    child = os.fork()
    if not child:
        with Path(request["log"]).open("wb") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os._exit(stage(request["argv"]))
    say({"id": request["id"], "pid": child})
    end_of_stdin = select.poll()
    end_of_stdin.register(0, 0)  # tells of its end alone, and reads nothing
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if end_of_stdin.poll(20):
            os.kill(child, signal.SIGKILL)
            os._exit(0)
    say({"id": request["id"], "exit": os.waitstatus_to_exitcode(status)})


def say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)


def stage(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--claim", action="append", default=[])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--progress", type=Path)
    parser.add_argument("--signing-key", type=Path)
    arguments = parser.parse_args(argv)
    config = StageConfig.from_wire(json.loads(arguments.config.read_text()))
    behaviour = next_behaviour(config.stage, arguments.signing_key)
    done = {"done": 1, "total": 2, "unit": "rows", "seconds_left": 1.0, "detail": ""}
    arguments.progress.write_text(json.dumps(done))
    print("the stand-in runs", config.stage, flush=True)
    if behaviour.get("hang"):
        signal.pause()
    if "signal" in behaviour:
        os.kill(os.getpid(), behaviour["signal"])
    if "failure" in behaviour:
        arguments.report.write_text(StageReport(failure=StageFailure(**behaviour["failure"])).encode())
    if behaviour.get("exit", 0) == 0:
        ratio = float(behaviour.get("lengthRatio", 1.0))
        arguments.report.write_text(StageReport(result=result(config, arguments.output, ratio)).encode())
    return int(behaviour.get("exit", 0))


def next_behaviour(stage: Stage, signing_key: Path | None) -> dict[str, Any]:
    folder = Path(os.environ["STAND_IN"])
    ran = folder / f"{stage.value}.ran"
    earlier = len(ran.read_text().splitlines()) if ran.exists() else 0
    with ran.open("a") as file:
        seen = (os.environ.get(name, "") for name in ("STAND_IN_EXTRA", "ALIGNMENT_JUDGE_API_KEY"))
        key = signing_key.read_text() if signing_key else ""
        file.write(" ".join([f"{os.getpid()} {os.environ.get('OMP_NUM_THREADS')}", *seen, key]) + "\n")
    planned = folder / f"{stage.value}.json"
    behaviours = json.loads(planned.read_text()) if planned.exists() else []
    behaviour: dict[str, Any] = behaviours[earlier] if earlier < len(behaviours) else {}
    return behaviour


def result(config: StageConfig, output: Path, length_ratio: float) -> StageResult:
    """A healthy result with the answers' lengths changed by a ratio."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "manifest.json").write_text("{}")
    digest = digests.of_bytes(config.stage.value.encode())
    candidate = config.inputs.get("candidate")
    measured = digests.of_bytes(b"candidate")
    model = Located(uri=candidate.uri, digest=candidate.digest or measured) if candidate else None
    if config.stage == Stage.TRAIN:
        (output / "model").mkdir(exist_ok=True)
        model = Located(uri=config.output + "/model", digest=digest)
    return StageResult(
        manifest=Located(uri=config.output, digest=digest),
        inputs={
            role: digests.of_bytes(role.encode()) for role, item in config.inputs.items() if not item.digest
        },
        model=model,
        counts={WORK[config.stage]: 3} | ({SIGNED: 1} if config.stage == Stage.PROMOTE else {}),
        measurements={
            LENGTH_RATIO: Measurement(
                estimate=length_ratio, low=length_ratio - 0.05, high=length_ratio + 0.05, n=300
            ),
            TRUNCATED_SHARE: Measurement(estimate=0.0, low=0.0, high=0.5, n=300),
            TRUNCATED_CHANGE: Measurement(estimate=0.0, low=-0.5, high=0.5, n=300),
        }
        if config.stage == Stage.EVALUATE
        else {},
        by_category={
            "facts": {GOLD: Measurement(estimate=2.0, low=-1.0, high=5.0, n=400, p=0.9, discordant=0.05)}
        }
        if config.stage == Stage.EVALUATE
        else {},
    )


if __name__ == "__main__":
    main()

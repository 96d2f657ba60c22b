"""`python -m alignment_worker STAGE --config FILE`: one stage, from its config to its report."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import ValidationError

from alignment_api import names
from alignment_api.stage import CONTRACT_VERSION, Stage, StageConfig, StageResult
from alignment_worker import inputs, preflight, report
from alignment_worker.failures import Interrupted, InvalidConfigError, WorkerError, exit_code_of
from alignment_worker.progress import Progress
from alignment_worker.store import Outcome, Places, StageFolder
from alignment_worker.workspace import Workspace


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    stage: Stage
    config: Path
    places: Places
    report: Path
    progress: Path | None


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, an `ExitCode`, 1 for a crash, 143 for SIGTERM."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["serve"]:
        from alignment_worker.serve import serve  # noqa: PLC0415 - loads torch for the stages to come

        return serve()
    arguments = parse_arguments(words)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        report.write_result(arguments.report, run(arguments))
    except (Exception, Interrupted) as error:  # noqa: BLE001 - the report must say why, whatever it was
        if not isinstance(error, WorkerError | Interrupted):
            traceback.print_exc()
        report.write_failure(arguments.report, error)
        return exit_code_of(error)
    return 0


def run(arguments: Arguments) -> StageResult:
    """Do the stage, or report what an earlier run has sealed. Raises WorkerError, Interrupted."""
    config, config_hash = read_config(arguments.config, arguments.stage)
    output = arguments.places.output or arguments.places.path(config.output)
    folder = StageFolder(output, config, config_hash)
    done = folder.finished()
    if done is not None:
        return done
    progress = Progress(arguments.progress)
    opened = inputs.opened(config, arguments.places, progress)
    preflight.check(opened, config.expected)
    run_folder = folder.new_run()
    workspace = Workspace(config, opened, arguments.places, folder.path, run_folder, progress)
    try:
        result = folder.seal(run_folder, compute(workspace), dict(opened.found))
    except BaseException as error:
        folder.discard(run_folder)
        done = folder.finished() if isinstance(error, Exception) else None
        if done is None:
            raise
        return done  # another pod won meanwhile, and cleared this run's files away
    return result


def compute(workspace: Workspace) -> Outcome:
    """Each stage is the module of its name."""
    module = importlib.import_module(f"alignment_worker.{workspace.config.stage.value}")
    outcome: Outcome = module.run(workspace)
    return outcome


def read_config(file: Path, stage: Stage) -> tuple[StageConfig, str]:
    """The config, and a hash of what the stage computes from. Raises InvalidConfigError."""
    try:
        wire = json.loads(file.read_bytes())
        config = StageConfig.from_wire(wire)
    except OSError as error:
        raise InvalidConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InvalidConfigError(f"{file}: {_first_problem(error)}") from error
    except ValueError as error:
        raise InvalidConfigError(f"{file}: is not JSON: {error}") from error
    if config.contract_version != CONTRACT_VERSION:
        raise InvalidConfigError(
            f"contractVersion: {config.contract_version}: this worker speaks version {CONTRACT_VERSION}; use "
            "the worker image of the operator's release"
        )
    if not config.stage == config.parameters.stage == stage:
        raise InvalidConfigError(
            f"stage: the command says {stage}, the config {config.stage}, its parameters {config.parameters.stage}"
        )
    return config, names.stage_hash(config.owner_uid, _computed_from(config, wire))


def _computed_from(config: StageConfig, wire: dict[str, Any]) -> dict[str, Any]:
    """A dataset's revision speaks of its content alone: the same pairs give the same manifest whatever its number."""
    if config.stage is not Stage.INGEST:
        return wire
    return {key: value for key, value in wire.items() if key not in {"iteration", "output"}}


def parse_arguments(words: Sequence[str]) -> Arguments:
    parser = argparse.ArgumentParser(
        prog="python -m alignment_worker", description="Do one stage of an iteration."
    )
    parser.add_argument("stage", choices=[stage.value for stage in Stage], help="the stage, or `serve`")
    parser.add_argument("--config", type=Path, required=True, help="the StageConfig, a JSON file")
    parser.add_argument(
        "--claim", action="append", default=[], metavar="NAME=DIR", help="the folder that a pvc:// claim is"
    )
    parser.add_argument("--output", type=Path, help="the folder that the config's output is")
    parser.add_argument("--report", type=Path, default=report.DEFAULT_PATH, help="where the report goes")
    parser.add_argument("--progress", type=Path, help="a JSON file, replaced as the stage goes on")
    parsed = parser.parse_args(words)
    claims = {}
    for claim in parsed.claim:
        name, separator, folder = claim.partition("=")
        if not separator or not name or not folder:
            parser.error(f"--claim {claim}: write NAME=DIR")
        claims[name] = Path(folder)
    return Arguments(
        Stage(parsed.stage), parsed.config, Places(claims, parsed.output), parsed.report, parsed.progress
    )


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {str(problem['input'])[:200]}: {problem['msg']}"


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted

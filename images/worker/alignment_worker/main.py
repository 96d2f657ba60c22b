"""`python -m alignment_worker STAGE --config FILE`: one stage, from its config to its report."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from pydantic import ValidationError

from alignment_api import names
from alignment_api.stage import CONTRACT_VERSION, Digest, Stage, StageConfig, StageReport, StageResult
from alignment_worker import gang, inputs, preflight, report, shards, telemetry
from alignment_worker.failures import Interrupted, InvalidConfigError, WorkerError, exit_code_of
from alignment_worker.ingestion import refreshes
from alignment_worker.inputs import Inputs
from alignment_worker.processes import die_with_parent
from alignment_worker.progress import Progress
from alignment_worker.shards import Shard
from alignment_worker.store import Outcome, Places, StageFolder
from alignment_worker.workspace import Workspace

T = TypeVar("T")


@dataclass(frozen=True)
class Arguments:
    """The command line."""

    stage: Stage
    config: Path
    places: Places
    report: Path
    progress: Path | None
    coordinator: str


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, an `ExitCode`, 1 for a crash, 143 for SIGTERM."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["serve"]:
        from alignment_worker.serve import serve  # noqa: PLC0415 - for a local run alone

        return serve([Stage(word) for word in words[1:]])
    arguments = parse_arguments(words)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        code, said = run(arguments, words)
        report.write(arguments.report, said)
    except (Exception, Interrupted) as error:  # noqa: BLE001 - the report must say why, whatever it was
        if not isinstance(error, WorkerError | Interrupted):
            traceback.print_exc()
        report.write_failure(arguments.report, error)
        return exit_code_of(error)
    return code


def run(arguments: Arguments, words: Sequence[str]) -> tuple[int, StageReport]:
    """Do the stage, or report what an earlier run has sealed: exit code and report. Raises WorkerError, Interrupted.

    `words` are the command line, for the processes of a gang.
    """
    config, config_hash = read_config(arguments.config, arguments.stage)
    output = arguments.places.output or arguments.places.path(config.output)
    folder = StageFolder(output, config, config_hash)
    done = folder.finished()
    if done is not None:
        return 0, StageReport(result=done)
    if gang.member():
        die_with_parent()
    if to_launch := gang.to_launch(config, arguments.coordinator):
        return gang.launch(to_launch, words)
    if gang.rank() > 0:
        return 0, _helped(arguments, config, folder)
    shard = shards.mine(config)
    if shard is None:
        return 0, StageReport(result=_done(arguments, config, folder, None))
    return 0, _sharded(arguments, config, folder, shard)


def _done(arguments: Arguments, config: StageConfig, folder: StageFolder, shard: Shard | None) -> StageResult:
    def compute() -> StageResult:
        progress = Progress(arguments.progress)
        with telemetry.served(config.stage, progress):
            found = refreshes.going_on(config, arguments.places) if config.stage is Stage.INGEST else config
            opened = inputs.opened(found, arguments.places, progress)
            preflight.check(opened, config.expected)
            with folder.run() as run_folder:
                workspace = Workspace(
                    config,
                    folder.config_hash,
                    opened,
                    arguments.places,
                    folder.path,
                    run_folder,
                    progress,
                    shard,
                )
                outcome: Outcome = _module(config.stage).run(workspace)
                return folder.seal(run_folder, outcome, _found(config, opened))

    return _unless_sealed(folder, compute)


def _found(config: StageConfig, opened: Inputs) -> dict[str, Digest]:
    """None of a dataset's refresh: 16 sources and as many gold sets do not fit a report, and its data card has them."""
    return {} if config.stage is Stage.INGEST else dict(opened.found)


def _helped(arguments: Arguments, config: StageConfig, folder: StageFolder) -> StageReport:
    """As one of a gang, of which the first seals and reports."""
    opened = inputs.opened(config, arguments.places, Progress())
    with tempfile.TemporaryDirectory() as scratch:
        _module(config.stage).help_with(
            Workspace(
                config, folder.config_hash, opened, arguments.places, folder.path, Path(scratch), Progress()
            )
        )
    return StageReport(part=gang.rank())


def _sharded(arguments: Arguments, config: StageConfig, folder: StageFolder, shard: Shard) -> StageReport:
    """The part of one shard; whoever then finds the parts of all makes the whole of them."""

    def merge() -> StageResult | None:
        mine = folder.part(shard.index)
        if mine.finished() is None:
            _done(arguments, config, mine, shard)
        parts = [folder.part(index).sealed() for index in range(shard.count)]
        there = [part for part in parts if part is not None]
        if len(there) < shard.count:
            return None
        with folder.run() as run_folder:
            return folder.seal(run_folder, _module(config.stage).merge(there, run_folder), there[0].inputs)

    result = _unless_sealed(folder, merge)
    return StageReport(part=shard.index) if result is None else StageReport(result=result)


def _unless_sealed(folder: StageFolder, work: Callable[[], T]) -> T | StageResult:
    """Another pod may win meanwhile, and clear away what this one works with."""
    try:
        return work()
    except Exception:
        done = folder.finished()
        if done is None:
            raise
        return done


def _module(stage: Stage) -> Any:
    """Each stage is the module of its name."""
    return importlib.import_module(f"alignment_worker.{stage.value}")


def read_config(file: Path, stage: Stage) -> tuple[StageConfig, str]:
    """The config, and a hash of what the stage computes from. Raises InvalidConfigError."""
    try:
        wire = json.loads(file.read_bytes())
        config = StageConfig.from_wire(wire)
    except OSError as error:
        raise InvalidConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise InvalidConfigError(f"{file}: {first_problem(error)}") from error
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
    """A dataset's revision speaks of its content alone: made again of the same, its manifest is the same.

    Where the files of its sources were, and by whose leave they were read, is no part of it.
    """
    if config.stage is not Stage.INGEST:
        return wire
    made_of = {key: value for key, value in wire.items() if key not in {"iteration", "output"}}
    inputs = {role: entry for role, entry in wire["inputs"].items() if role != "base"}
    for role in [role for role in inputs if role.startswith("source/")]:
        inputs[role] = {key: value for key, value in inputs[role].items() if key != "uri"}
    sources = [_without_credentials(source) for source in wire["parameters"]["sources"]]
    return made_of | {"inputs": inputs, "parameters": {**wire["parameters"], "sources": sources}}


def _without_credentials(source: dict[str, Any]) -> dict[str, Any]:
    kinds = {
        kind: {key: value for key, value in source[kind].items() if key != "credentialsSecretRef"}
        for kind in ("files", "inferenceLog")
        if source.get(kind)
    }
    return source | kinds


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
    parser.add_argument("--signing-key", type=Path, help="a private key, where the stage signs")
    parser.add_argument("--report", type=Path, default=report.DEFAULT_PATH, help="where the report goes")
    parser.add_argument("--progress", type=Path, help="a JSON file, replaced as the stage goes on")
    parser.add_argument(
        "--coordinator", default="", metavar="HOST:PORT", help="where the nodes of a gang meet"
    )
    parsed = parser.parse_args(words)
    claims = {}
    for claim in parsed.claim:
        name, separator, folder = claim.partition("=")
        if not separator or not name or not folder:
            parser.error(f"--claim {claim}: write NAME=DIR")
        claims[name] = Path(folder)
    return Arguments(
        Stage(parsed.stage),
        parsed.config,
        Places(claims, parsed.output, parsed.signing_key),
        parsed.report,
        parsed.progress,
        parsed.coordinator,
    )


def first_problem(error: ValidationError) -> str:
    """Where, what is there, and what is wrong with it."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "rule":  # of a model, about what lies below it
        return f"{where}{problem['ctx']['path']}: {problem['msg']}"
    return f"{where}: {str(problem['input'])[:200]}: {problem['msg']}"


def interrupt(_number: int, _frame: FrameType | None) -> None:
    """Of SIGTERM."""
    raise Interrupted

"""`python -m alignment_worker.noise --config FILE`: the stages of an A/A run one after the other, for a person.

What they make is scratch, what they report is framed on stdout; an error is one line on stderr.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from alignment_api import digests
from alignment_api.iteration_report import framed
from alignment_api.noise import NoiseConfig, NoiseResults
from alignment_api.stage import ExitCode, Stage, StageConfig, StageResult
from alignment_worker.failures import Interrupted, WorkerError, exit_code_of, failure_of
from alignment_worker.main import Arguments, first_problem, interrupt, parse_arguments, run


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or that of the stage which failed."""
    words = sys.argv[1:] if argv is None else argv
    arguments = parse_arguments([Stage.EVALUATE.value, *words])
    signal.signal(signal.SIGTERM, interrupt)
    results: dict[Stage, StageResult] = {}
    try:
        stages = NoiseConfig.model_validate_json(arguments.config.read_bytes()).stages
    except ValidationError as error:
        print(f"error: not the config of an A/A run: {first_problem(error)}", file=sys.stderr)
        return ExitCode.INVALID_CONFIG
    for config in stages:
        try:
            results[config.stage] = _done(arguments, config)
        except (Exception, Interrupted) as error:  # noqa: BLE001 - one line must say why, whatever it was
            if not isinstance(error, WorkerError | Interrupted):
                traceback.print_exc()
            failure = failure_of(error)
            said = " ".join(failure.message.split())
            print(f"error: stage {config.stage} failed: {failure.reason}: {said}", file=sys.stderr)
            return exit_code_of(error)
    answer = NoiseResults(results=results).model_dump_json(by_alias=True, exclude_none=True)
    sys.stdout.write(framed(answer.encode()))
    return 0


def _done(arguments: Arguments, config: StageConfig) -> StageResult:
    """Raises what the stage raises."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "stage.json"
        file.write_bytes(digests.canonical_json(config.to_wire()))
        _, said = run(replace(arguments, stage=config.stage, config=file), ())
    assert said.result is not None  # neither of them is done in parts
    return said.result


if __name__ == "__main__":
    sys.exit(main())

"""The command: a config in, a page or results out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from alignment_api.iteration_report import DiffConfig, ReportConfig, Results, SearchConfig, Wanted, framed
from alignment_api.stage import CONTRACT_VERSION
from alignment_worker.failures import InvalidConfigError, WorkerError, exit_code_of
from alignment_worker.iteration_report.reading import artifacts_of, results
from alignment_worker.store import Places


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0, or the `ExitCode` of a config that cannot be used. Errors are one line on stderr."""
    arguments = _arguments(argv)
    try:
        data = answer(arguments.config.read_bytes(), Places(_claims(arguments.claim)))
    except WorkerError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code_of(error)
    except OSError as error:
        print(f"error: {arguments.config}: {error.strerror}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(framed(data).encode() if arguments.framed else data)
    return 0


def answer(config: bytes, places: Places) -> bytes:
    """What the config asks for. Raises WorkerError."""
    try:
        wanted = Wanted.model_validate_json(config).root
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidConfigError(
            f"not the config of a report: {where or 'all of it'}: {first['msg']}"
        ) from error
    if wanted.contract_version != CONTRACT_VERSION:
        raise InvalidConfigError(
            f"contractVersion: {wanted.contract_version}: this worker speaks version {CONTRACT_VERSION}; use the "
            "worker image of the release that asks"
        )
    if isinstance(wanted, DiffConfig):
        from alignment_worker.ingestion.comparing import diff  # noqa: PLC0415 - a report needs it not

        return diff(wanted, places).model_dump_json(by_alias=True, exclude_none=True).encode()
    if isinstance(wanted, SearchConfig):
        from alignment_worker.ingestion.searching import search  # noqa: PLC0415 - loads torch

        return search(wanted, places).model_dump_json(by_alias=True, exclude_none=True).encode()
    if not isinstance(wanted, ReportConfig):
        found = Results(iterations=results(wanted.iterations, wanted.numbers, places))
        return found.model_dump_json(by_alias=True, exclude_none=True).encode()
    from alignment_worker.iteration_report.html import html_of  # noqa: PLC0415 - results need no template
    from alignment_worker.iteration_report.page import page_of  # noqa: PLC0415

    return html_of(page_of(wanted, artifacts_of(wanted, places))).encode()


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m alignment_worker.iteration_report",
        description="One iteration as an HTML page on stdout, or what the store has of several, or of two revisions.",
    )
    parser.add_argument(
        "--config", type=Path, required=True, help="a JSON file: alignment_api.iteration_report"
    )
    parser.add_argument(
        "--claim", action="append", default=[], metavar="NAME=DIR", help="the folder that a pvc:// claim is"
    )
    parser.add_argument(
        "--framed", action="store_true", help="marked lines, for a log that others write to, too"
    )
    return parser.parse_args(argv)


def _claims(pairs: Sequence[str]) -> dict[str, Path]:
    return {name: Path(folder) for name, _, folder in (pair.partition("=") for pair in pairs)}


if __name__ == "__main__":
    sys.exit(main())

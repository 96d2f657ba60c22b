"""`alignment-recorder`: stands before a serving endpoint."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click


def _pattern(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> list[re.Pattern[str]]:
    try:
        return [re.compile(value) for value in values]
    except re.error as error:
        raise click.BadParameter(f"{error.pattern!r} is not a regular expression: {error}") from error


def _upstream(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"https?://[^/?#\s]+/?", value):
        raise click.BadParameter(
            f"{value!r}: give the server's address without a path, as http://localhost:8000"
        )
    return value


@click.command()
@click.version_option(package_name="alignment-operator")
@click.option("--upstream", required=True, callback=_upstream, help="The server: http://HOST:PORT.")
@click.option(
    "--log",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the log.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="To listen at.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=9090,
    show_default=True,
    help="Of /metrics; 0: none.",
)
@click.option(
    "--sample-percent",
    type=click.FloatRange(0, 100),
    default=100,
    show_default=True,
    help="Of the prompts, whose answers are logged.",
)
@click.option(
    "--redact",
    multiple=True,
    callback=_pattern,
    help="What matches is logged as [redacted]; may be repeated.",
)
@click.option(
    "--digest-file",
    type=click.Path(path_type=Path),
    help="Holds the digest of the served model: of the ConfigMap that a cycle writes, as the server loaded it.",
)
def main(
    upstream: str,
    folder: Path,
    port: int,
    metrics_port: int,
    sample_percent: float,
    redact: list[re.Pattern[str]],
    digest_file: Path | None,
) -> None:
    """Pass on every request to a serving endpoint, and log what it answers.

    POST /v1/feedback takes what people say of an answer.
    """
    from alignment_recorder.log import LogOptions  # noqa: PLC0415 - --help needs no aiohttp
    from alignment_recorder.server import Server, StartError  # noqa: PLC0415

    server = Server(
        upstream,
        LogOptions(folder, sample_percent, redact),
        digest_file,
        port=port,
        metrics_port=metrics_port,
    )
    try:
        server.run()
    except StartError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

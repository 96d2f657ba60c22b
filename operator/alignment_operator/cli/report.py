"""`alignctl report`: an iteration as one HTML file."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from alignment_api.iteration_report import FILE
from alignment_operator.api import CYCLE, Manifest
from alignment_operator.cli.errors import CommandError
from alignment_operator.cli.inputs import folders_of
from alignment_operator.cli.options import claims_option, iteration_option, namespace_option, state_option
from alignment_operator.cli.place import Place, place
from alignment_operator.cli.store import PATIENCE_SECONDS, Cycle, accounts_of, config_of, store_of
from alignment_operator.explain.account import iterations_uri
from alignment_operator.local.claims import Claims
from alignment_operator.local.directory import Directory
from alignment_operator.local.files import CorruptFileError, write_atomically
from alignment_operator.local.reading import ReadingError
from alignment_operator.render.reading import SECONDS


@click.command("report")
@click.argument("name")
@iteration_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="The file; - is stdout.  [default: report.html beside the iteration's stages; of a cluster NAME-N.html here]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1, max=SECONDS),
    default=PATIENCE_SECONDS,
    show_default=True,
    help="Seconds that a cluster may take to start the Job and read.",
)
@state_option
@claims_option
@namespace_option
def command(
    name: str,
    number: int | None,
    output: Path | None,
    timeout: float,
    state: Path | None,
    claims: tuple[str, ...],
    namespace: str | None,
) -> None:
    """Write an iteration of the cycle NAME as one HTML file: the last, or --iteration.

    Of a cluster, a Job of your own reads the store, prints the file and is deleted. That takes leave to create, get and
    delete jobs, to list pods and to get their logs.
    """
    file = asyncio.run(_report(name, number, output, timeout, state, folders_of(claims), namespace))
    if file is not None:
        click.echo(file)


async def _report(
    name: str,
    number: int | None,
    output: Path | None,
    patience: float,
    state: Path | None,
    claims: Mapping[str, Path],
    namespace: str | None,
) -> Path | None:
    """The file that was written; None for stdout. Raises CommandError."""
    async with place(state, namespace) as where:
        click.echo(where.heading(), err=True)
        cycle = await Cycle.of(where, await where.one(CYCLE, name))
        chosen = cycle.chosen(number)
        if output is None and where.state is not None:
            output = _beside_the_stages(cycle, chosen, Claims.recalled(claims, where.state))
            if not output.parent.is_dir():
                raise CommandError(f"{output.parent} is gone: retention has let it go; name a file with -o")
        html = await _html(cycle, chosen, claims, patience)
    if output is not None and str(output) == "-":
        sys.stdout.buffer.write(html)
        return None
    return _written(output or Path(f"{name}-{chosen}.html"), html)


async def of_a_run(manifest: Manifest, state: Path) -> Path:
    """The report of the last iteration of a cycle in a state folder, beside its stages. Raises CommandError."""
    cycle = await Cycle.of(Place(Directory(state), "", state), manifest)
    number = cycle.chosen(None)
    file = _beside_the_stages(cycle, number, Claims.recalled({}, state))
    return _written(file, await _html(cycle, number, {}))


async def _html(
    cycle: Cycle, number: int, claims: Mapping[str, Path], patience: float = PATIENCE_SECONDS
) -> bytes:
    (account,) = await accounts_of(cycle, [number], claims)
    try:
        return await store_of(cycle, claims, number, patience).read(config_of(cycle, account))
    except (ReadingError, CorruptFileError) as error:
        raise CommandError(str(error)) from error


def _beside_the_stages(cycle: Cycle, number: int, claims: Claims) -> Path:
    """In the iteration's own folder, so that retention lets it go with it."""
    frozen = cycle.frozen.get(number)
    uri = iterations_uri(cycle.owner, frozen.spec if frozen else cycle.spec)
    return claims.path(uri) / str(number) / FILE


def _written(file: Path, html: bytes) -> Path:
    try:
        write_atomically(file, html)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    return file

"""`alignctl search`: the rows of a dataset whose prompts are nearest in meaning to some words."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.console import Console

from alignment_api.iteration_report import Matches, SearchConfig
from alignment_api.stage import Located
from alignment_api.validation import parse_dataset
from alignment_operator.api import DATASET
from alignment_operator.cli.dataset import only, status_of, store_of
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.inputs import folders_of
from alignment_operator.cli.options import claims_option, namespace_option, state_option
from alignment_operator.cli.place import place
from alignment_operator.cli.printing import console_for, print_table
from alignment_operator.local.reading import ReadingError


@click.command("search")
@click.argument("arguments", nargs=-1, required=True, metavar="[NAME] WORDS")
@click.option(
    "--rows", "most", type=click.IntRange(1, 100), default=10, help="Rows shown at most.  [default: 10]"
)
@click.option("--image", help="The worker's, on a cluster, where the dataset does not name it.")
@state_option
@claims_option
@namespace_option
def command(
    arguments: tuple[str, ...],
    most: int,
    image: str | None,
    state: Path | None,
    claims: tuple[str, ...],
    namespace: str | None,
) -> None:
    """Show the rows of the dataset NAME whose prompts are nearest in meaning to WORDS.

    WORDS is one argument: put it in quotes. NAME may be left out where there is one dataset. It needs
    spec.curation.embedding. The store is read, on a cluster by a Job of your own.
    """
    *name, words = arguments
    if len(name) > 1 or not words.strip():
        raise CommandError(
            f'{" ".join(arguments)}: write NAME WORDS, as in human-feedback "a late refund"', Exit.INVALID
        )
    asyncio.run(_search(name[0] if name else None, words, most, image, state, claims, namespace))


async def _search(
    name: str | None,
    words: str,
    most: int,
    image: str | None,
    state: Path | None,
    claims: tuple[str, ...],
    namespace: str | None,
) -> None:
    async with place(state, namespace) as where:
        click.echo(where.heading(), err=True)
        manifest = await where.one(DATASET, name or await only(where))
        found_name = manifest["metadata"]["name"]
        spec, problems = parse_dataset(manifest)
        if spec is None:
            raise CommandError(f"{found_name}: {problems[0]}")
        if spec.curation.embedding is None:
            raise CommandError(
                f"{found_name} has no vectors: name a model in spec.curation.embedding.model, and refresh it"
            )
        revision = status_of(manifest).revision
        if revision is None:
            raise CommandError(f"{found_name} has no revision yet")
        store = await store_of(where, manifest, folders_of(claims), image)
        config = SearchConfig(
            revisions=revision.uri.rpartition("/")[0],
            revision=Located(uri=revision.uri, digest=revision.digest),
            model=spec.curation.embedding.model,
            words=words,
            most=most,
        )
        try:
            found = Matches.of(await store.read(config))
        except (ReadingError, ValueError) as error:
            raise CommandError(f"the store could not be read: {error}") from error
    _print(console_for(), found)


def _print(console: Console, found: Matches) -> None:
    rows = [
        (
            f"{match.percent:.1f} %",
            str(match.row.ordinal),
            f"{match.row.source}: {match.row.file}:{match.row.line}",
            match.row.prompt,
            match.row.said,
            match.row.against,
        )
        for match in found.matches
    ]
    print_table(console, ("ALIKE", "ROW", "FROM", "PROMPT", "CHOSEN", "REJECTED"), rows)

"""`alignctl search`: the rows of a dataset whose prompts are nearest in meaning to some words."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.console import Console

from alignment_api.iteration_report import Matches, SearchConfig
from alignment_api.stage import Located
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.inputs import folders_of
from alignment_operator.cli.options import claims_option, namespace_option, state_option
from alignment_operator.cli.printing import console_for, print_table
from alignment_operator.cli.revisions import dataset_of, image_option


@click.command("search")
@click.argument("arguments", nargs=-1, required=True, metavar="[NAME] WORDS")
@click.option(
    "--rows", "most", type=click.IntRange(1, 100), default=10, help="Rows shown at most.  [default: 10]"
)
@image_option
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
    async with dataset_of(name, state, namespace) as dataset:
        embedding = dataset.spec().curation.embedding
        if embedding is None:
            raise CommandError(
                f"{dataset.name} has no vectors: name a model in spec.curation.embedding.model, and refresh it"
            )
        revision = dataset.status().revision
        if revision is None:
            raise CommandError(f"{dataset.name} has no revision yet")
        config = SearchConfig(
            revisions=revision.uri.rpartition("/")[0],
            revision=Located(uri=revision.uri, digest=revision.digest),
            model=embedding.model,
            words=words,
            most=most,
        )
        found = await dataset.read(config, Matches.of, folders_of(claims), image)
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

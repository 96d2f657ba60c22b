"""`alignctl validate`: what is wrong with manifests, all of it at once."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from alignment_operator.cli.errors import Exit
from alignment_operator.cli.manifests import STDIN, read
from alignment_operator.cli.options import files_option


@click.command("validate")
@files_option
def command(files: tuple[Path, ...]) -> None:
    """Check AlignmentCycles and PreferenceDatasets; other kinds are passed over.

    Prints each problem as FILE:LINE: FIELD: VALUE: what is wrong and what to do. Exit status 0, or 2 if there is one.
    """
    documents, problems = read(files)
    for document in documents:
        problems += document.problems()
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems:
        sys.exit(Exit.INVALID)
    ours = [document for document in documents if document.is_ours]
    if not ours:
        click.echo("error: no AlignmentCycle or PreferenceDataset in these files", err=True)
        sys.exit(Exit.INVALID)
    for document in ours:
        file = "(stdin)" if document.file == STDIN else document.file
        click.echo(f"{file}: {document.kind} {document.name or 'without a name'} is valid")

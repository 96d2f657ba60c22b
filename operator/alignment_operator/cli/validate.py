"""`alignctl validate`: what is wrong with manifests, all of it at once, and what a gold set of this size can show."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path

import click

from alignment_api import names, uris
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.dataset import PreferenceDatasetSpec
from alignment_api.validation import Problem
from alignment_operator.cli import data_rows, not_there
from alignment_operator.cli.errors import Exit
from alignment_operator.cli.inputs import STATE, complain, folders_of
from alignment_operator.cli.manifests import STDIN, Document, read
from alignment_operator.cli.options import claims_option, files_option
from alignment_operator.gates import gold_power
from alignment_operator.local.claims import Claims


@click.command("validate")
@files_option
@claims_option
def command(files: tuple[Path, ...], claims: tuple[str, ...]) -> None:
    """Check AlignmentCycles and PreferenceDatasets; other kinds are passed over.

    Prints each problem as FILE:LINE: FIELD: VALUE: what is wrong and what to do; of a cycle whose gold set is on this
    machine (JSON Lines), what the gate goldSet can notice with it. Inputs are looked for in the claims that are given,
    and rows of gold sets and held-out prompts are read where they are on this machine. Exit status 0, or 2 if there is
    a problem.
    """
    documents, problems = read(files)
    for document in documents:
        problems += document.problems()
    complain(problems)
    ours = [document for document in documents if document.is_ours]
    if not ours:
        click.echo("error: no AlignmentCycle or PreferenceDataset in these files", err=True)
        sys.exit(Exit.INVALID)
    folders = folders_of(claims)
    places = Claims(folders, [path if path.is_dir() else path.parent for path in files], STATE)
    complain(
        [
            document.located(problem)
            for document in ours
            for problem in _of_the_inputs(document, places, folders)
        ]
    )
    for document in ours:
        file = "(stdin)" if document.file == STDIN else document.file
        click.echo(f"{file}: {document.kind} {document.name or 'without a name'} is valid")
        for line in _of_the_gold_set(document, places):
            click.echo(f"  {line}")


def _of_the_inputs(document: Document, places: Claims, given: Container[str]) -> Iterator[Problem]:
    """What is not in a claim that was given, and what is wrong with the rows of those that are here."""
    if document.kind == names.DATASET_KIND:
        named = not_there.of_dataset(PreferenceDatasetSpec.from_wire(document.value["spec"]))
    else:
        spec = AlignmentCycleSpec.from_wire(document.value["spec"])
        named = not_there.of_cycle(spec)
        yield from data_rows.problems(spec, places)
    looked_for = [
        (field, uri) for field, uri in named if not uris.in_bucket(uri) and uris.parse(uri).claim in given
    ]
    yield from not_there.problems(looked_for, places)


def _of_the_gold_set(document: Document, places: Claims) -> Iterator[str]:
    if document.kind != names.CYCLE_KIND:
        return
    spec = AlignmentCycleSpec.from_wire(document.value["spec"])
    rows = data_rows.read(spec.evaluation.gold_set.uri, places)
    items = Counter(str(row.columns["category"]) for row in rows or [])
    if not items:
        return
    confidence = spec.evaluation.confidence_percent / 100
    passes = refused = 1.0
    for category, count in sorted(items.items()):
        found = gold_power.power(category, count, spec.gates.gold_set, confidence, len(items))
        passes *= 1 - found.held - found.refused
        refused *= 1 - found.refused
        drop = f"a drop of {found.detectable:.1f} points" if found.detectable <= 100 else "no drop"
        yield f"goldSet, {category}, {count} items: {drop} is found four times of five"
    yield (
        f"goldSet: an equal candidate is held in {100 * (refused - passes):.1f} % and refused in "
        f"{100 * (1 - refused):.1f} % of the iterations, if {100 * gold_power.DISCORDANT:.0f} % of its answers "
        "change, half of them for the worse"
    )

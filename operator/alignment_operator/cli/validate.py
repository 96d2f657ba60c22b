"""`alignctl validate`: what is wrong with manifests, all of it at once, and what a gold set of this size can show."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click

from alignment_api.cycle import AlignmentCycleSpec
from alignment_operator.cli.errors import Exit
from alignment_operator.cli.inputs import STATE, folders_of
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
    machine (JSON Lines), what the gate goldSet can notice with it. Exit status 0, or 2 if there is a problem.
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
    places = Claims(folders_of(claims), [path if path.is_dir() else path.parent for path in files], STATE)
    for document in ours:
        file = "(stdin)" if document.file == STDIN else document.file
        click.echo(f"{file}: {document.kind} {document.name or 'without a name'} is valid")
        for line in _of_the_gold_set(document, places):
            click.echo(f"  {line}")


def _of_the_gold_set(document: Document, places: Claims) -> Iterator[str]:
    if document.kind != "AlignmentCycle":
        return
    spec = AlignmentCycleSpec.from_wire(document.value["spec"])
    items = _items(spec, places)
    if not items:
        return
    confidence = spec.evaluation.confidence_percent / 100
    passes = refused = 1.0
    for category, count in sorted(items.items()):
        found = gold_power.power(count, spec.gates.gold_set, confidence, len(items))
        passes *= 1 - found.held - found.refused
        refused *= 1 - found.refused
        drop = f"a drop of {found.detectable:.1f} points" if found.detectable <= 100 else "no drop"
        yield f"goldSet, {category}, {count} items: {drop} is found four times of five"
    yield (
        f"goldSet: an equal candidate is held in {100 * (refused - passes):.1f} % and refused in "
        f"{100 * (1 - refused):.1f} % of the iterations, if {100 * gold_power.DISCORDANT:.0f} % of its answers "
        "change, half of them for the worse"
    )


def _items(spec: AlignmentCycleSpec, places: Claims) -> Counter[str]:
    """By category; none where the file is not here, or no JSON Lines. What is wrong with it the first stage says."""
    with suppress(OSError, ValueError, AttributeError):
        path = places.path(spec.evaluation.gold_set.uri)
        if path.suffix == ".jsonl":
            rows = (json.loads(line) for line in path.read_bytes().splitlines() if line.strip())
            return Counter(str(row.get("category")) for row in rows)
    return Counter()

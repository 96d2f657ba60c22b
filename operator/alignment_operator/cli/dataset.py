"""`alignctl dataset diff`: in what two revisions of a dataset differ."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from alignment_api.dataset import Revision
from alignment_api.iteration_report import Diff, DiffConfig, RowExample
from alignment_api.stage import Located
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.inputs import folders_of
from alignment_operator.cli.options import claims_option, namespace_option, state_option
from alignment_operator.cli.printing import console_for, print_table
from alignment_operator.cli.revisions import Dataset, dataset_of, image_option
from alignment_operator.plan.dataset_result import longer_chosen

_COUNTS = {
    "read": "rows read",
    "invalid": "left out: invalid",
    "contaminated": "left out: contaminated",
    "conflicting": "left out: conflicting",
    "duplicate": "left out: duplicate",
    "filtered": "left out: filtered",
    "nearDuplicate": "left out: near-duplicate",
    "capped": "left out: capped",
    "pii": "left out: personal data",
    "kept": "pairs and unpaired rows",
    "unpaired": "of them unpaired",
    "nearGold": "of them alike to a gold prompt",
    "sequence": "highest ordinal",
    "medianPromptCharacters": "median prompt, characters",
    "medianCompletionCharacters": "median answer, characters",
}


@click.group("dataset")
def command() -> None:
    """Look into a PreferenceDataset."""


@command.command("diff")
@click.argument("words", nargs=-1, required=True, metavar="[NAME] A B")
@click.option(
    "--examples", type=click.IntRange(0, 100), default=5, help="Rows shown of each kind.  [default: 5]"
)
@image_option
@state_option
@claims_option
@namespace_option
def diff(
    words: tuple[str, ...],
    examples: int,
    image: str | None,
    state: Path | None,
    claims: tuple[str, ...],
    namespace: str | None,
) -> None:
    """Say in what the revisions A and B of the dataset NAME differ.

    Which pairs and unpaired rows came and went, by source, and the counts of both. NAME may be left out where there
    is one dataset. The store is read, on a cluster by a Job of your own.
    """
    name, numbers = _parsed(words)
    asyncio.run(_diff(name, numbers, examples, image, state, claims, namespace))


def _parsed(words: Sequence[str]) -> tuple[str | None, tuple[int, int]]:
    *name, first, second = words if len(words) in (2, 3) else ("", "", "", "")
    if not (first.isdecimal() and second.isdecimal()):
        raise CommandError(f"{' '.join(words)}: write NAME A B, as in human-feedback 11 12", Exit.INVALID)
    if int(first) == int(second):
        raise CommandError(f"{first} and {second} are one revision; name two", Exit.INVALID)
    return (name[0] if name else None), (int(first), int(second))


async def _diff(
    name: str | None,
    numbers: tuple[int, int],
    examples: int,
    image: str | None,
    state: Path | None,
    claims: tuple[str, ...],
    namespace: str | None,
) -> None:
    async with dataset_of(name, state, namespace) as dataset:
        first, second = _revisions(dataset, numbers)
        config = DiffConfig(
            revisions=first.uri.rpartition("/")[0],
            first=Located(uri=first.uri, digest=first.digest),
            second=Located(uri=second.uri, digest=second.digest),
            examples=examples,
        )
        found = await dataset.read(config, Diff.of, folders_of(claims), image)
    _print(console_for(), dataset.name, numbers, found)


def _revisions(dataset: Dataset, numbers: tuple[int, int]) -> tuple[Revision, Revision]:
    by_number = {revision.number: revision for revision in dataset.status().kept}
    newest = max(by_number, default=0)
    for number in numbers:
        if number in by_number:
            continue
        told = ", ".join(map(str, by_number)) or "none"
        if 0 < number < newest:
            raise CommandError(
                f"revision {number} of {dataset.name} is not kept any more (spec.retention.revisions); kept are {told}"
            )
        raise CommandError(f"revision {number} of {dataset.name} is not known; known are {told}")
    first, second = (by_number[number] for number in numbers)
    if first.uri.rpartition("/")[0] != second.uri.rpartition("/")[0]:
        raise CommandError(
            f"revisions {numbers[0]} and {numbers[1]} lie in different stores: spec.store was changed"
        )
    return first, second


def _print(console: Console, name: str, numbers: tuple[int, int], found: Diff) -> None:
    heads = [f"REVISION {number}" for number in numbers]
    rows = [(label, *_both(found, key)) for key, label in _COUNTS.items()]
    percents = [longer_chosen(counts) for counts in (found.first, found.second)]
    longer = ["not known" if percent is None else f"{percent:.1f} %" for percent in percents]
    print_table(console, (name.upper(), *heads), [*rows, ("longer answer chosen", *longer)])
    console.print()
    sources = sorted(
        key.removeprefix("source/") for key in {*found.first, *found.second} if key.startswith("source/")
    )
    changes = [
        (
            source,
            *_both(found, f"source/{source}"),
            f"+{found.came.get(source, 0)}",
            f"−{found.went.get(source, 0)}",
        )
        for source in sources
    ]
    print_table(console, ("SOURCE", *heads, "CAME", "WENT"), changes)
    for word, examples in (("CAME", found.examples_came), ("WENT", found.examples_went)):
        if examples:
            console.print()
            print_table(
                console, (word, "FROM", "PROMPT", "CHOSEN", "REJECTED"), [_cells(each) for each in examples]
            )


def _both(found: Diff, key: str) -> tuple[str, str]:
    return str(found.first.get(key, 0)), str(found.second.get(key, 0))


def _cells(row: RowExample) -> tuple[str, ...]:
    return (str(row.ordinal), f"{row.source}: {row.file}:{row.line}", row.prompt, row.said, row.against)

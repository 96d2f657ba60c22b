"""`alignctl dataset diff`: in what two revisions of a dataset differ."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from pydantic import ValidationError
from rich.console import Console

from alignment_api import names
from alignment_api.dataset import PreferenceDatasetStatus, Revision
from alignment_api.iteration_report import Diff, DiffConfig, RowExample
from alignment_api.pods import PodDefaults
from alignment_api.stage import Located
from alignment_api.validation import parse_dataset
from alignment_operator.api import DATASET, JOB, Manifest
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.inputs import folders_of
from alignment_operator.cli.options import claims_option, namespace_option, state_option
from alignment_operator.cli.place import Place, place
from alignment_operator.cli.printing import console_for, print_table
from alignment_operator.cli.store import PATIENCE_SECONDS, Store
from alignment_operator.local.claims import Claims
from alignment_operator.local.reading import LocalStore, ReadingError
from alignment_operator.observe.objects import owner_of
from alignment_operator.render.layout import WORKER

_COUNTS = {
    "read": "rows read",
    "invalid": "left out: invalid",
    "contaminated": "left out: contaminated",
    "conflicting": "left out: conflicting",
    "duplicate": "left out: duplicate",
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
@click.option("--image", help="The worker's, on a cluster, where the dataset does not name it.")
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
    async with place(state, namespace) as where:
        click.echo(where.heading(), err=True)
        manifest = await where.one(DATASET, name or await only(where))
        first, second = _revisions(manifest, numbers)
        store = await store_of(where, manifest, folders_of(claims), image)
        config = DiffConfig(
            revisions=first.uri.rpartition("/")[0],
            first=Located(uri=first.uri, digest=first.digest),
            second=Located(uri=second.uri, digest=second.digest),
            examples=examples,
        )
        try:
            found = Diff.of(await store.read(config))
        except (ReadingError, ValueError) as error:
            raise CommandError(f"the store could not be read: {error}") from error
    _print(console_for(), manifest["metadata"]["name"], numbers, found)


async def only(where: Place) -> str:
    """The name of the one dataset there. Raises CommandError."""
    known = [item["metadata"]["name"] for item in await where.every(DATASET)]
    if len(known) != 1:
        told = ", ".join(known) or "none"
        raise CommandError(
            f"say which PreferenceDataset, by its name before the rest; there: {told}", Exit.INVALID
        )
    return str(known[0])


def _revisions(manifest: Manifest, numbers: tuple[int, int]) -> tuple[Revision, Revision]:
    name, status = manifest["metadata"]["name"], status_of(manifest)
    by_number = {revision.number: revision for revision in status.kept}
    newest = max(by_number, default=0)
    for number in numbers:
        if number in by_number:
            continue
        told = ", ".join(map(str, by_number)) or "none"
        if 0 < number < newest:
            raise CommandError(
                f"revision {number} of {name} is not kept any more (spec.retention.revisions); kept are {told}"
            )
        raise CommandError(f"revision {number} of {name} is not known; known are {told}")
    first, second = (by_number[number] for number in numbers)
    if first.uri.rpartition("/")[0] != second.uri.rpartition("/")[0]:
        raise CommandError(
            f"revisions {numbers[0]} and {numbers[1]} lie in different stores: spec.store was changed"
        )
    return first, second


def status_of(manifest: Manifest) -> PreferenceDatasetStatus:
    """Raises CommandError."""
    name = manifest["metadata"]["name"]
    try:
        return PreferenceDatasetStatus.from_wire(manifest.get("status") or {})
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise CommandError(f"the status of {name} is not one that this version wrote: {message}") from error


async def store_of(where: Place, manifest: Manifest, claims: Mapping[str, Path], image: str | None) -> Store:
    """What reads its store, here or on the cluster. Raises CommandError."""
    if where.state is not None:
        return LocalStore(Claims.recalled(claims, where.state))
    if claims:
        raise CommandError(
            "--claim says where claims are on this machine; on a cluster they are where they are"
        )
    from alignment_operator.cli.cluster_store import ClusterStore  # noqa: PLC0415 - a folder needs no client
    from alignment_operator.cluster import Cluster  # noqa: PLC0415

    assert isinstance(where.api, Cluster)
    spec, problems = parse_dataset(manifest)
    if spec is None:
        raise CommandError(f"{manifest['metadata']['name']}: {problems[0]}")
    pods = spec.defaults
    image = image or pods.image or await _image_of_last_job(where, manifest)
    if image is None:
        raise CommandError("no Job is left that says which worker image it ran; name it by --image")
    resources = pods.resources.without_extended() if pods.resources else None
    settled: PodDefaults = pods.model_copy(update={"image": image, "resources": resources})
    return ClusterStore(where.api, owner_of(manifest), settled, PATIENCE_SECONDS, names.DATASET_KIND)


async def _image_of_last_job(where: Place, manifest: Manifest) -> str | None:
    last = manifest.get("status", {}).get("ingest", {}).get("job")
    job = await where.api.get(JOB, manifest["metadata"]["namespace"], last) if last else None
    containers = job["spec"]["template"]["spec"]["containers"] if job else []
    return next((each["image"] for each in containers if each["name"] == WORKER), None)


def _print(console: Console, name: str, numbers: tuple[int, int], found: Diff) -> None:
    heads = [f"REVISION {number}" for number in numbers]
    rows = [(label, *_both(found, key)) for key, label in _COUNTS.items()]
    longer = tuple(_longer_chosen(counts) for counts in (found.first, found.second))
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


def _longer_chosen(counts: Mapping[str, int]) -> str:
    longer, shorter = counts.get("longerChosen", 0), counts.get("shorterChosen", 0)
    return f"{100 * longer / (longer + shorter):.1f} %" if longer + shorter else "not known"


def _cells(row: RowExample) -> tuple[str, ...]:
    return (str(row.ordinal), f"{row.source}: {row.file}:{row.line}", row.prompt, row.said, row.against)

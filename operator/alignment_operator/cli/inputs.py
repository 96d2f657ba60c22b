"""From what was typed to what a command works on: valid manifests, claims, the state folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from alignment_api import names, uris
from alignment_api.validation import Problem
from alignment_operator.api import CONTROLLER_REVISION, CYCLE, DATASET, Manifest
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.manifests import Document, Located, read
from alignment_operator.local.claims import Claims
from alignment_operator.local.directory import Directory
from alignment_operator.local.files import CorruptFileError

_NAMELESS = Problem("metadata.name", "", "is required here: what runs again must be the same object")
STATE = Path(".alignment")


@dataclass(frozen=True)
class Given:
    """The manifests of one command."""

    cycles: list[Document]
    datasets: list[Document]
    folders: list[Path]

    def cycle(self) -> Document:
        """The one cycle. Raises CommandError if there are none or several."""
        if not self.cycles:
            raise CommandError("no AlignmentCycle in these files; give its manifest with -f", Exit.INVALID)
        self.refuse_several()
        return self.cycles[0]

    def refuse_several(self) -> None:
        if len(self.cycles) > 1:
            listed = ", ".join(f"{item.value['metadata']['name']} in {item.file}" for item in self.cycles)
            raise CommandError(f"one cycle at a time; these files hold {listed}", Exit.INVALID)


def given(paths: Sequence[Path]) -> Given:
    """Every AlignmentCycle and PreferenceDataset of the files. Prints what is wrong with them and exits with 2."""
    documents, problems = read(paths)
    for document in documents:
        problems += document.problems()
    complain(problems)
    complain(
        [document.located(_NAMELESS) for document in documents if document.is_ours and not document.name]
    )
    return Given(
        cycles=[document for document in documents if document.kind == names.CYCLE_KIND],
        datasets=[document for document in documents if document.kind == names.DATASET_KIND],
        folders=list(dict.fromkeys(path if path.is_dir() else path.parent for path in paths)),
    )


def complain(problems: Sequence[Located]) -> None:
    for problem in problems:
        click.echo(str(problem), err=True)
    if problems:
        raise SystemExit(int(Exit.INVALID))


def claims_of(pairs: Sequence[str], manifests: Given, state: Path) -> Claims:
    """Raises CommandError for a pair that is not NAME=DIR, a folder that is not there, a claim that nothing names."""
    folder_of = folders_of(pairs)
    if folder_of:
        _require_named(list(folder_of), manifests, state)
    return Claims(folder_of, manifests.folders, state)


def folders_of(pairs: Sequence[str]) -> dict[str, Path]:
    """Raises CommandError for a pair that is not NAME=DIR, and for a folder that is not there."""
    folder_of = {}
    for pair in pairs:
        name, separator, folder = pair.partition("=")
        if not (separator and name and folder):
            raise CommandError(
                f"--claim {pair}: write NAME=DIR, as in --claim models=/data/models", Exit.INVALID
            )
        if not Path(folder).is_dir():
            raise CommandError(f"--claim {pair}: {folder} is not a folder", Exit.INVALID)
        folder_of[name] = Path(folder)
    return folder_of


def remember(claims: Claims, manifests: Given, state: Path) -> None:
    """Where the claims of these manifests are, for commands that are given none. Raises CommandError, OSError."""
    documents = [document.value for document in (*manifests.cycles, *manifests.datasets)]
    try:
        claims.remember(sorted(_claims_in(documents) | _claims_in(_earlier(documents, state))))
    except CorruptFileError as error:
        raise CommandError(str(error)) from error


def _require_named(claims: Sequence[str], manifests: Given, state: Path) -> None:
    documents = [document.value for document in (*manifests.cycles, *manifests.datasets)]
    named = _claims_in(documents)
    known = named | _claims_in(_earlier(documents, state))
    for claim in claims:
        if claim not in known:
            there = ", ".join(f"pvc://{name}" for name in sorted(named)) or "none"
            message = f"--claim {claim}=…: no URI of these manifests names pvc://{claim}; they name: {there}"
            raise CommandError(message, Exit.INVALID)


def _earlier(documents: Sequence[Manifest], state: Path) -> list[Manifest]:
    """What earlier runs left of these objects: an iteration that goes on works from what it froze."""
    wanted = {document["metadata"]["name"] for document in documents}
    wanted |= {each["name"] for document in documents for each in document["spec"].get("datasets") or []}
    found = []
    try:
        for kind in (CYCLE, DATASET, CONTROLLER_REVISION):
            for item in Directory(state).all(kind):
                metadata = item["metadata"]
                owners = {owner["name"] for owner in metadata.get("ownerReferences", [])}
                if wanted & {metadata["name"], *owners}:
                    found.append(item)
    except CorruptFileError as error:
        raise CommandError(str(error)) from error
    return found


def _claims_in(value: Any) -> set[str]:
    """The names of all claims that a text somewhere in the value is a URI of."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return set().union(*(_claims_in(item) for item in inner))
    with suppress(ValueError):
        return {uris.parse(value).claim} - {""} if isinstance(value, str) else set()
    return set()


def namespace_of(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("namespace") or "default")

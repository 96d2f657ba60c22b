"""`alignctl verify`: whether what was promoted is what its evidence says, from the store's files alone."""

from __future__ import annotations

from pathlib import Path

import click

from alignment_api import digests
from alignment_operator import verification
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.printing import console_for, print_table
from alignment_operator.verification import Promotion


@click.command("verify")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--evidence",
    metavar="SHA256",
    help="The evidence digest of what is promoted, as the cycle's status.promoted has it: the ledger must name it.",
)
@click.option(
    "--public-key",
    "public_keys",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="A PEM: what was promoted has to be signed by this key; again for more keys, one of which will do. Without it "
    "the keys are those that the evidence names, if it names any.",
)
def command(folder: Path, evidence: str | None, public_keys: tuple[Path, ...]) -> None:
    """Check every promotion in a cycle's FOLDER of the store (STORE/NAMESPACE/NAME/UID): digests, verdicts, signatures.

    Exit status 0: all is as it was sealed. 1: something is not, and which file is said.
    """
    if not (folder / "ledger").is_dir():
        raise CommandError(
            f"{folder}: has no folder `ledger`; name the cycle's own folder, STORE/NAMESPACE/NAME/UID, in which "
            "something was promoted"
        )
    found = verification.verify(folder, [_text(file) for file in public_keys])
    if not found:
        raise CommandError(f"{folder / 'ledger'}: holds no promotion")
    columns = ("ITERATION", "CANDIDATE", "EVIDENCE", "FILES", "")
    print_table(console_for(), columns, [_row(promotion) for promotion in found])
    problems = [problem for promotion in found for problem in promotion.problems]
    if evidence is not None and all(evidence not in _spellings(promotion.evidence) for promotion in found):
        problems.append(f"{folder / 'ledger'}: no entry names the evidence {evidence}")
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        raise SystemExit(1)


def _row(promotion: Promotion) -> tuple[str, ...]:
    approved = ", approved by a person" * promotion.approved
    sealed = f"as sealed{', signed' * promotion.signed}{approved}"
    verdict = "not what it was" if promotion.problems else "collected" if promotion.collected else sealed
    short = (digests.short(digest) for digest in (promotion.candidate, promotion.evidence))
    return (str(promotion.iteration), *short, str(promotion.files), verdict)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (OSError, ValueError) as error:
        raise CommandError(f"--public-key {file}: cannot be read as text: {error}", Exit.INVALID) from error


def _spellings(digest: str) -> tuple[str, str]:
    return digest, digest.removeprefix("sha256:")

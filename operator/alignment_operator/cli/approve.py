"""`alignctl approve`: a person lets a held candidate be promoted."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import click

from alignment_operator.api import Manifest
from alignment_operator.cli import verbs
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.options import namespace_option, state_option
from alignment_operator.cli.program import program


@click.command("approve")
@click.argument("name")
@click.option(
    "--evidence",
    metavar="SHA256",
    default="",
    help="The digest of the evidence that you have read, or its beginning: nothing else is approved.",
)
@state_option
@namespace_option
def command(name: str, evidence: str, state: Path | None, namespace: str | None) -> None:
    """Approve the candidate of the cycle NAME that waits for a person, by the digest of its evidence.

    Looks into the folder of a local run (--state, or .alignment here), else into the cluster.
    """

    if evidence and not re.fullmatch("(sha256:)?[0-9a-f]{4,64}", evidence):
        raise CommandError(
            f"--evidence: {evidence!r}: write a digest or its beginning, as in sha256:4be1", Exit.INVALID
        )

    def value(cycle: Manifest) -> str:
        iteration = verbs.held(cycle)
        sealed = iteration.evidence_digest or ""
        if not sealed.removeprefix("sha256:").startswith(evidence.removeprefix("sha256:")):
            raise CommandError(
                f"--evidence: {evidence}: is not what waits for a person: iteration {iteration.number} of {name} has "
                f"the evidence {sealed}. Read its report before you approve it"
            )
        return f"{iteration.number}@{sealed}"

    where, _ = asyncio.run(verbs.say("approve", name, state, namespace, value))
    if where.state is not None:
        click.echo(f"The same `{program()} run` as before promotes it.")

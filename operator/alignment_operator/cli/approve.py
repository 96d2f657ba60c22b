"""`alignctl approve`: a person lets a held candidate be promoted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from alignment_operator.api import Manifest
from alignment_operator.cli import verbs
from alignment_operator.cli.options import namespace_option, state_option
from alignment_operator.cli.program import program


@click.command("approve")
@click.argument("name")
@state_option
@namespace_option
def command(name: str, state: Path | None, namespace: str | None) -> None:
    """Approve the candidate of the cycle NAME that waits for a person, by the digest of its evidence.

    Looks into the folder of a local run (--state, or .alignment here), else into the cluster.
    """

    def value(cycle: Manifest) -> str:
        iteration = verbs.held(cycle)
        return f"{iteration.number}@{iteration.evidence_digest}"

    where, _ = asyncio.run(verbs.say("approve", name, state, namespace, value))
    if where.state is not None:
        click.echo(f"The same `{program()} run` as before promotes it.")

"""`alignctl reject`: a person refuses a candidate."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from alignment_operator.cli import verbs
from alignment_operator.cli.options import namespace_option, state_option


@click.command("reject")
@click.argument("name")
@state_option
@namespace_option
def command(name: str, state: Path | None, namespace: str | None) -> None:
    """Refuse the candidate of the cycle NAME: one that is held, in the making, or approved and not yet promoted.

    Looks into the folder of a local run (--state, or .alignment here), else into the cluster.
    """
    asyncio.run(
        verbs.say("reject", name, state, namespace, lambda cycle: str(verbs.unfinished(cycle).number))
    )

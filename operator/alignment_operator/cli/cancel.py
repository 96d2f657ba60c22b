"""`alignctl cancel`: a person ends the running iteration."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from alignment_operator.cli import verbs
from alignment_operator.cli.options import namespace_option, state_option


@click.command("cancel")
@click.argument("name")
@state_option
@namespace_option
def command(name: str, state: Path | None, namespace: str | None) -> None:
    """End the running iteration of the cycle NAME, with the outcome Cancelled.

    Looks into the folder of a local run (--state, or .alignment here), else into the cluster.
    """
    asyncio.run(
        verbs.say("cancel", name, state, namespace, lambda cycle: str(verbs.unfinished(cycle).number))
    )

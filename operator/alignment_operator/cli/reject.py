"""`alignctl reject`: a person refuses a held candidate."""

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
    """Refuse the candidate of the cycle NAME that waits for a person.

    Looks into the folder of a local run (--state, or .alignment here), else into the cluster.
    """
    asyncio.run(verbs.say("reject", name, state, namespace, lambda cycle: str(verbs.held(cycle).number)))

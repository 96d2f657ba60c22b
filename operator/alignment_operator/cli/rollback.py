"""`alignctl rollback`: a person puts back what was promoted before."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import click

from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_operator.api import Manifest
from alignment_operator.cli import verbs
from alignment_operator.cli.options import namespace_option, state_option


@click.command("rollback")
@click.argument("name")
@click.option(
    "--to",
    "number",
    type=click.IntRange(min=0),
    help="The iteration whose checkpoint is promoted again; 0 is M_0.  [default: the one before]",
)
@click.option("--why", help="A word for the record, a ticket for example.  [default: the time]")
@state_option
@namespace_option
def command(
    name: str, number: int | None, why: str | None, state: Path | None, namespace: str | None
) -> None:
    """Promote again what the cycle NAME had promoted before. The next promotion then needs an approval.

    Looks into the folder of a local run (--state, or .alignment here), else into the cluster.
    """

    def value(cycle: Manifest) -> str:
        return (
            f"{verbs.to_go_back_to(cycle, number)}@{why or datetime.now(UTC).isoformat(timespec='seconds')}"
        )

    where, cycle = asyncio.run(verbs.say("rollback", name, state, namespace, value))
    promoted = AlignmentCycleStatus.of(cycle.get("status")).promoted
    if where.state is not None and promoted is not None and promoted.rolled_back:
        what = f"what iteration {promoted.iteration} promoted" if promoted.iteration else "M_0"
        click.echo(f"{what} serves now: {promoted.uri}; the next promotion waits for an approval")

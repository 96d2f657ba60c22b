"""`alignctl history`: the iterations that ended, the newest first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from alignment_api import digests
from alignment_operator.api import CYCLE
from alignment_operator.cli.options import namespace_option, state_option
from alignment_operator.cli.place import place
from alignment_operator.cli.printing import console_for, print_table


@click.command("history")
@click.argument("name", required=False)
@state_option
@namespace_option
def command(name: str | None, state: Path | None, namespace: str | None) -> None:
    """Show how the iterations of a cycle, or of every cycle, ended.

    Looks into the folder of a local run (--state, or .alignment here), else into the cluster.
    """
    asyncio.run(_history(name, state, namespace))


async def _history(name: str | None, state: Path | None, namespace: str | None) -> None:
    async with place(state, namespace) as where:
        click.echo(where.heading(), err=True)
        cycles = [await where.one(CYCLE, name)] if name else await where.every(CYCLE)
    rows = []
    for cycle in cycles:
        status = cycle.get("status", {})
        promoted = status.get("promoted", {}).get("iteration")
        for row in status.get("history", []):
            candidate = digests.short(row.get("candidateDigest", ""))
            serves = "promoted now" if row["number"] == promoted else ""
            told = (str(row["number"]), row["outcome"], row["reason"], row["finishedAt"], candidate, serves)
            rows.append((cycle["metadata"]["name"], *told))
    if rows:
        columns = ("CYCLE", "ITERATION", "OUTCOME", "REASON", "FINISHED", "CANDIDATE", "")
        print_table(console_for(), columns, rows)
    else:
        click.echo("no iteration has ended yet")

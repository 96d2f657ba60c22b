"""`python -m tests.faults [ROW]...`: the sweep behind `make faults`. Exit status 1 if anything was violated."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import click

from tests.faults.access import granted_writes
from tests.faults.bed import Site, cluster, site
from tests.faults.processes import DISTURBANCES, disturbed
from tests.faults.sweep import rows, sweeping
from tests.faults.table import Row, table, used


@click.command()
@click.argument("wanted", nargs=-1)
def main(wanted: tuple[str, ...]) -> None:
    """Only rows whose name begins with one of WANTED; none: all.

    A write that the chart grants and no run made is a fault of the sweep, and counts as a violation.
    """
    logging.basicConfig(level=logging.ERROR)
    began, load = time.monotonic(), os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster(Path(folder)) as (bed, client),
        site(bed, client, "faults") as where,
    ):
        done = asyncio.run(_sweep(where, Path(folder), wanted))
    print(table(done))
    minutes = (time.monotonic() - began) / 60
    print(f"{minutes:.0f} minutes on {os.cpu_count()} cores, with a load of {load:.1f} before")
    runs = [verdict for row in done for verdict in row.verdicts]
    unused = sorted(granted_writes() ^ used(done))
    print(
        f"granted, and in no run, or the other way round: {unused}"
        if unused
        else "all writes granted were made"
    )
    sys.exit(1 if unused or any(run.violations or run.twice or run.after_the_end for run in runs) else 0)


async def _sweep(where: Site, folder: Path, wanted: tuple[str, ...]) -> list[Row]:
    async with sweeping(where) as sweep:
        fine = await sweep.without_faults()
        writes = {verdict.run.scenario.name: len(verdict.writes[0]) for verdict in fine}
        works: dict[str, Callable[[], Awaitable[Row]]] = {}
        works |= {name: partial(sweep.row, name, cases) for name, cases in rows(writes).items()}
        works |= {name: partial(disturbed, sweep, name, folder) for name in DISTURBANCES}
        done = [Row("none", fine)]
        for name, work in works.items():
            if not wanted or name.startswith(wanted):
                began = time.monotonic()
                done.append(await work())
                seconds = time.monotonic() - began
                print(" | ".join(done[-1].cells()), f"({seconds:.0f} s)", file=sys.stderr, flush=True)
    return done


main()

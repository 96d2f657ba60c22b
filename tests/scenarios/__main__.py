"""`python -m tests.scenarios [SCENARIO]...`: the battery behind `make scenarios`. Exit status 1 if it finds a wrong."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click

from tests.scenarios.battery import outcomes
from tests.scenarios.scenarios import SCENARIOS
from tests.scenarios.table import Row, luck, problems, table
from tests.scenarios.trial import ROOT


@click.command()
@click.argument("wanted", nargs=-1)
@click.option("--seeds", default=3, show_default=True, help="Trainings of each scenario.")
@click.option("--sets", default=300, show_default=True, help="Resampled sets of measurements behind a rate.")
@click.option("--jobs", default=2, show_default=True, help="Scenarios side by side.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=ROOT / ".alignment" / "scenarios",
    help="Keeps what was trained.",
)
def main(wanted: Sequence[str], seeds: int, sets: int, jobs: int, folder: Path) -> None:
    """Only scenarios whose name begins with one of WANTED; none: all.

    What a stopped run has trained is not trained again.
    """
    began = time.monotonic()
    chosen = [each for each in SCENARIOS if not wanted or each.name.startswith(tuple(wanted))]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(outcomes, each.name, seeds, sets, folder.absolute()) for each in chosen]
        done = []
        for scenario, future in zip(chosen, futures, strict=True):
            done.append(Row(scenario, *future.result()))
            print(" | ".join(done[-1].cells()), file=sys.stderr, flush=True)
    print(table(done))
    print(luck(done))
    print(f"{(time.monotonic() - began) / 60:.0f} minutes on {os.cpu_count()} cores")
    found = problems(done)
    print("\n".join(found) or "no wrong promotion, and nothing that was not expected")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()

"""`alignctl status`: where cycles and datasets stand."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from alignment_api import digests
from alignment_operator.api import CYCLE, DATASET, Manifest
from alignment_operator.cli.options import namespace_option, output_option, state_option
from alignment_operator.cli.outcome import print_gates
from alignment_operator.cli.place import Place, place
from alignment_operator.cli.printing import console_for, print_object, print_table
from alignment_operator.cli.program import program
from alignment_operator.cli.watching import counts_of, seconds_of, spelled_progress, spelled_seconds

_WATCH_SECONDS = 2.0


@click.command("status")
@click.argument("name", required=False)
@state_option
@namespace_option
@output_option
@click.option("--watch", "-w", is_flag=True, help="Go on showing it, until Ctrl-C.")
def command(
    name: str | None, state: Path | None, namespace: str | None, output: str | None, *, watch: bool
) -> None:
    """Show every cycle and dataset, or one cycle with its stages, gates and conditions.

    Looks into the folder of a local run (--state, or .alignment here), else into the cluster.
    """
    if watch and output:
        raise click.UsageError("-w shows what changes; with -o, give kubectl's own `get -w`")
    try:
        asyncio.run(_watch(name, state, namespace) if watch else _status(name, state, namespace, output))
    except KeyboardInterrupt:
        sys.exit(130)


async def _watch(name: str | None, state: Path | None, namespace: str | None) -> None:
    async with place(state, namespace) as where:
        click.echo(where.heading(), err=True)
        console = console_for()
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:
                while True:
                    live.update(Text.from_ansi(await _drawn(console, where, name)), refresh=True)
                    await asyncio.sleep(_WATCH_SECONDS)
        said: set[str] = set()
        while True:
            cycles = [await where.one(CYCLE, name)] if name else await where.every(CYCLE)
            lines = [line for cycle in cycles for line in _lines(where, cycle)]
            for line in lines:
                if line not in said:
                    click.echo(line)
            said = set(lines)
            await asyncio.sleep(_WATCH_SECONDS)


async def _drawn(console: Console, where: Place, name: str | None) -> str:
    cycles = [await where.one(CYCLE, name)] if name else await where.every(CYCLE)
    datasets = [] if name else await where.every(DATASET)
    with console.capture() as captured:
        if name:
            _print_one(console, where, cycles[0])
        else:
            _print_all(where, cycles, datasets)
    return captured.get()


def _lines(where: Place, cycle: Manifest) -> list[str]:
    """Where no terminal redraws: a line for each stage, and for how the iteration ended."""
    iteration = cycle.get("status", {}).get("iteration")
    if not iteration:
        return [f"{cycle['metadata']['name']}: no iteration yet"]
    which = f"{cycle['metadata']['name']}: iteration {iteration['number']}"
    stages = [f"{which}: {stage['name']} {stage['state']} {_detail(stage)}" for stage in iteration["stages"]]
    if "outcome" in iteration:
        stages.append(f"{which}: {iteration['outcome']}, {iteration.get('reason', '')}")
    if where.is_stopped(cycle):
        stages.append(f"{which}: {_goes_on()}")
    return [line.rstrip() for line in stages]


async def _status(name: str | None, state: Path | None, namespace: str | None, output: str | None) -> None:
    async with place(state, namespace) as where:
        click.echo(where.heading(), err=True)
        if name is None:
            cycles, datasets = await where.every(CYCLE), await where.every(DATASET)
            if output:
                print_object(
                    {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [*cycles, *datasets]},
                    output,
                )
            else:
                _print_all(where, cycles, datasets)
            return
        cycle = await where.one(CYCLE, name)
    if output:
        print_object(cycle, output)
    else:
        _print_one(console_for(), where, cycle)


def _print_all(where: Place, cycles: Sequence[Manifest], datasets: Sequence[Manifest]) -> None:
    console = console_for()
    if not cycles and not datasets:
        console.print(Text(f"no AlignmentCycle or PreferenceDataset in {where}"))
    if cycles:
        columns = ("CYCLE", "READY", "ITERATION", "STAGE", "OUTCOME", "REASON", "PROMOTED", "NEXT RUN", "AGE")
        print_table(console, columns, [_cycle_row(where, cycle) for cycle in cycles])
    if datasets:
        headings = ("DATASET", "READY", "PAIRS", "UNPAIRED", "REVISION", "AGE")
        print_table(console, headings, [_dataset_row(dataset) for dataset in datasets])


def _print_one(console: Console, where: Place, cycle: Manifest) -> None:
    status = cycle.get("status", {})
    iteration = status.get("iteration")
    stopped = where.is_stopped(cycle)
    print_table(console, ("CYCLE", "READY", "PROMOTED", "NEXT RUN"), [_heading(cycle)])
    if iteration:
        outcome = _goes_on() if stopped else iteration.get("outcome") or "running"
        console.print()
        console.print(
            Text(f"iteration {iteration['number']}: {outcome}  {iteration.get('reason', '')}", style="bold")
        )
        if "message" in iteration:
            console.print(Text(iteration["message"]), soft_wrap=True)
        stages = [_stage_row(stage, stopped=stopped) for stage in iteration.get("stages", [])]
        console.print()
        print_table(console, ("STAGE", "STATE", "TOOK", "ATTEMPT", "DETAIL"), stages)
        if gates := iteration.get("gates"):
            console.print()
            print_gates(console, gates)
    console.print()
    if "observedGeneration" not in status:
        console.print(Text(_unobserved(cycle)), soft_wrap=True)
        return
    conditions = [
        (item["type"], item["status"], item["reason"], item["message"])
        for item in status.get("conditions", [])
    ]
    print_table(console, ("CONDITION", "STATUS", "REASON", "MESSAGE"), conditions)


def _heading(cycle: Manifest) -> tuple[str, ...]:
    promoted = cycle.get("status", {}).get("promoted")
    told = (
        f"iteration {promoted['iteration']}: {promoted['uri']} {digests.short(promoted['digest'])}"
        if promoted
        else ""
    )
    next_run = cycle.get("status", {}).get("nextRunAt", "")
    return (cycle["metadata"]["name"], _ready(cycle), told or "nothing yet", next_run)


def _unobserved(cycle: Manifest) -> str:
    namespace = cycle["metadata"]["namespace"]
    return (
        "no operator has looked at it. Is one running (kubectl get deployments -A -l "
        f"app.kubernetes.io/name=alignment-operator), and is {namespace} among its watchNamespaces?"
    )


def _goes_on() -> str:
    return f"stopped; go on with the same `{program()} run`"


def _cycle_row(where: Place, cycle: Manifest) -> tuple[str, ...]:
    status = cycle.get("status", {})
    iteration: dict[str, Any] = status.get("iteration", {})
    if where.is_stopped(cycle):
        iteration = {**iteration, "outcome": "stopped"}
    promoted = status.get("promoted", {}).get("iteration", "")
    told = (str(iteration.get(key, "")) for key in ("number", "stage", "outcome", "reason"))
    name, next_run = cycle["metadata"]["name"], status.get("nextRunAt", "")
    return (name, _ready(cycle), *told, str(promoted), next_run, _age(cycle))


def _dataset_row(dataset: Manifest) -> tuple[str, ...]:
    status = dataset.get("status", {})
    revision = status.get("revision", {}).get("number", "")
    return (
        dataset["metadata"]["name"],
        _ready(dataset),
        str(status.get("pairs", "")),
        str(status.get("unpaired", "")),
        str(revision),
        _age(dataset),
    )


def _stage_row(stage: Manifest, *, stopped: bool) -> tuple[str, ...]:
    if stopped and stage["state"] == "Running":
        return (stage["name"], "stopped", "", str(stage.get("attempt", 0)), "")
    took = spelled_seconds(seconds_of(stage))
    return (stage["name"], stage["state"], took, str(stage.get("attempt", 0)), _detail(stage))


def _detail(stage: Manifest) -> str:
    """What was done, or how far it is and where, or why it waits."""
    if counts := counts_of(stage):
        return counts
    if (progress := stage.get("progress")) and stage["state"] == "Running":
        done, total, left = progress["done"], progress.get("total"), progress.get("secondsLeft")
        rate = (total - done) / left if total and left else None
        told = spelled_progress(done, total, progress["unit"], rate, left)
        return f"{told}, on {progress['node']}" if progress.get("node") else told
    return ": ".join(part for part in (stage.get("reason"), stage.get("message")) if part)


def _ready(manifest: Manifest) -> str:
    conditions = manifest.get("status", {}).get("conditions", [])
    return next((str(item["status"]) for item in conditions if item["type"] == "Ready"), "Unknown")


def _age(manifest: Manifest) -> str:
    created = datetime.fromisoformat(manifest["metadata"]["creationTimestamp"])
    return spelled_seconds((datetime.now(UTC) - created).total_seconds())

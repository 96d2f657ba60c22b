"""`alignctl compare`: two iterations of a cycle side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from alignment_api import digests
from alignment_operator.api import CYCLE
from alignment_operator.cli.errors import CommandError, Exit
from alignment_operator.cli.inputs import folders_of
from alignment_operator.cli.options import claims_option, namespace_option, state_option
from alignment_operator.cli.place import place
from alignment_operator.cli.printing import console_for, print_table
from alignment_operator.cli.store import Cycle, accounts_of
from alignment_operator.explain.comparison import Line, compared

_NUMBER = click.IntRange(min=1)


@click.command("compare")
@click.argument("name")
@click.argument("first", type=_NUMBER, metavar="A")
@click.argument("second", type=_NUMBER, metavar="B")
@state_option
@claims_option
@namespace_option
def command(
    name: str, first: int, second: int, state: Path | None, claims: tuple[str, ...], namespace: str | None
) -> None:
    """Set two iterations, A and B, of the cycle NAME side by side.

    How they ended, what was measured, what was done, and in what their specs differ.

    Status has all of the last iteration; for others the store is read, on a cluster by a Job of your own.
    """
    if first == second:
        raise CommandError(f"{first} and {second} are one iteration; name two", Exit.INVALID)
    asyncio.run(_compare(name, (first, second), state, claims, namespace))


async def _compare(
    name: str,
    numbers: tuple[int, int],
    state: Path | None,
    claims: tuple[str, ...],
    namespace: str | None,
) -> None:
    async with place(state, namespace) as where:
        click.echo(where.heading(), err=True)
        cycle = await Cycle.of(where, await where.one(CYCLE, name))
        accounts = await accounts_of(cycle, [cycle.chosen(number) for number in numbers], folders_of(claims))
    found = compared(*accounts)
    console = console_for()
    headings = tuple(f"ITERATION {number}" for number in numbers)
    _print(console, (name.upper(), *headings), found.outcome)
    _print(console, ("GATE", *headings), found.verdicts)
    _print(console, ("MEASURED", *headings), found.measurements)
    _print(console, ("WORK", *headings), found.work)
    _print(console, ("DIGEST", *headings), [_short(line) for line in found.models])
    if found.spec is None:
        _say(console, "what the specs differ in is not known: a ControllerRevision is gone")
    elif found.spec:
        _print(console, ("SPEC, WHAT DIFFERS", *headings), found.spec)
    else:
        _say(console, "both froze the same spec")
    for number, account in zip(numbers, accounts, strict=True):
        for line in account.unknown:
            _say(console, f"iteration {number}: {line}")


def _print(console: Console, columns: Sequence[str], lines: Sequence[Line]) -> None:
    if not lines:
        return
    rows = []
    for line in lines:
        style = "bold" if line.differs else ""
        rows.append((line.name, Text(line.first, style=style), Text(line.second, style=style)))
    print_table(console, columns, rows)
    console.print()


def _short(line: Line) -> Line:
    return Line(line.name, *(_shortened(text) for text in (line.first, line.second)))


def _shortened(text: str) -> str:
    return " ".join(digests.short(word) if word.startswith("sha256:") else word for word in text.split(" "))


def _say(console: Console, line: str) -> None:
    console.print(Text(line), soft_wrap=True)

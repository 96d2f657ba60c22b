"""`alignctl explain`: why an iteration ended as it did, and what would settle it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from alignment_api.gates import Gate, Verdict
from alignment_api.iteration_report import ExplainedGate, Explanation, Measured
from alignment_operator.api import CYCLE
from alignment_operator.cli.inputs import folders_of
from alignment_operator.cli.options import claims_option, iteration_option, namespace_option, state_option
from alignment_operator.cli.outcome import STYLES
from alignment_operator.cli.place import place
from alignment_operator.cli.printing import console_for, print_table
from alignment_operator.cli.store import Cycle, accounts_of, report_command
from alignment_operator.explain.account import Account


@click.command("explain")
@click.argument("name")
@iteration_option
@state_option
@claims_option
@namespace_option
def command(
    name: str, number: int | None, state: Path | None, claims: tuple[str, ...], namespace: str | None
) -> None:
    """Say why an iteration of the cycle NAME ended as it did: the last, or --iteration.

    Of each gate that did not pass: what was measured and allowed, what it could have detected, what would settle it.
    Status has all of the last iteration; for one before it the store is read, on a cluster by a Job of your own.
    """
    asyncio.run(_explain(name, number, state, claims, namespace))


async def _explain(
    name: str, number: int | None, state: Path | None, claims: tuple[str, ...], namespace: str | None
) -> None:
    async with place(state, namespace) as where:
        click.echo(where.heading(), err=True)
        cycle = await Cycle.of(where, await where.one(CYCLE, name))
        chosen = cycle.chosen(number)
        (account,) = await accounts_of(cycle, [chosen], folders_of(claims))
    explanation = account.explanation(cycle.verb("approve"), cycle.verb("reject"))
    console = console_for()
    _print_outcome(console, name, account, explanation)
    for gate in explanation.gates:
        if gate.verdict is not Verdict.PASSED:
            _print_gate(console, gate)
    passed = [gate for gate in explanation.gates if gate.verdict is Verdict.PASSED]
    if passed:
        console.print()
        console.print(Text(f"passed: {', '.join(gate.name.value for gate in passed)}"), soft_wrap=True)
        for gate in passed:
            _print_asides(console, gate, f"{gate.name.value}: ")
    console.print()
    console.print(Text("what to do", style="bold"))
    for step in explanation.next:
        console.print(Text(f"  - {step}"), soft_wrap=True)
    console.print(Text(f"  - see the answers themselves: {report_command(cycle, chosen)}"), soft_wrap=True)


def _print_outcome(console: Console, name: str, account: Account, explanation: Explanation) -> None:
    iteration = account.iteration
    reason = f" ({iteration.reason})" if iteration.reason else ""
    heading = f"{name}, iteration {iteration.number}: {explanation.outcome}{reason}"
    console.print(Text(heading, style="bold"), soft_wrap=True)
    console.print(Text(explanation.sentence), soft_wrap=True)
    for line in account.unknown:
        console.print(Text(f"note: {line}"), soft_wrap=True)


def _print_gate(console: Console, gate: ExplainedGate) -> None:
    console.print()
    reason = f" ({gate.reason.value})" if gate.reason else ""
    verdict = Text(gate.verdict.value, style=STYLES[gate.verdict])
    console.print(Text(f"{gate.name.value}: ", style="bold") + verdict + Text(reason))
    console.print(Text(f"  {gate.message}"), soft_wrap=True)
    if gate.measured:
        rows = [("", *_row(measured)) for measured in gate.measured]
        print_table(console, ("", "MEASURED", "ESTIMATE", "INTERVAL", "ALLOWED", "N"), rows)
    _print_asides(console, gate)
    for label, text in (("could detect", gate.detectable), ("would settle it", gate.settles)):
        if text:
            console.print(Text(f"  {label}: {text}"), soft_wrap=True)


def _print_asides(console: Console, gate: ExplainedGate, whose: str = "") -> None:
    """What decides nothing and deserves a look. How measurements are to be read is not told where none are shown."""
    for warning in gate.warnings:
        console.print(Text(f"  {whose}warning: {warning}"), soft_wrap=True)
    if gate.note and (gate.verdict is not Verdict.PASSED or gate.name is Gate.WIN_RATE):
        console.print(Text(f"  {whose}{gate.note}"), soft_wrap=True)


def _row(measured: Measured) -> tuple[str, ...]:
    size = str(measured.measurement.n)
    return measured.label, measured.estimate(), measured.interval(), measured.allowed(), size

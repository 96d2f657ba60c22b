"""The entry of `alignctl`, also `kubectl align`: finds the command, turns errors into one message each."""

from __future__ import annotations

import importlib
import os
import sys

import click

from alignment_operator.cli.program import is_plugin

COMMANDS = {
    "run": "run one iteration here, without a cluster",
    "noise": "measure what the gates see in two equal models, here or on a cluster",
    "validate": "say what is wrong with manifests",
    "plan": "say what an iteration would do, without doing it",
    "render": "print the Jobs that an iteration would create",
    "status": "show where cycles and datasets stand",
    "history": "show the iterations that ended",
    "explain": "say why an iteration ended as it did, and what would settle it",
    "compare": "set two iterations of a cycle side by side",
    "report": "write an iteration as one HTML file",
    "dataset": "say in what two revisions of a dataset differ",
    "search": "show the rows of a dataset that are nearest in meaning to some words",
    "approve": "let an iteration that is held promote its candidate",
    "reject": "refuse the candidate of an iteration that is held",
    "cancel": "end the running iteration",
    "rollback": "promote again what was promoted before",
    "gold": "write a gold set from samples of lm-evaluation-harness, or from other files",
    "verify": "check what was promoted against its evidence, in the store's files",
}


class LazyGroup(click.Group):
    """Imports a command's module only when that command is called; the list of commands needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"alignment_operator.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="alignment-operator", prog_name="alignctl")
@click.option(
    "-n",
    "--namespace",
    help="The namespace, for commands that look into a cluster; it may be given after them, too.",
)
@click.pass_context
def alignctl(context: click.Context, namespace: str | None) -> None:
    """Run, inspect and decide alignment cycles."""
    called = context.invoked_subcommand
    if namespace is None or called is None:
        return
    command = alignctl.get_command(context, called)
    if isinstance(command, click.Group):
        context.default_map = {called: {name: {"namespace": namespace} for name in command.commands}}
        return
    if command is not None and all(option.name != "namespace" for option in command.params):
        raise click.UsageError(f"{called} looks into no cluster: leave out -n {namespace}")
    context.default_map = {called: {"namespace": namespace}}


def main() -> None:
    """The console script: `alignctl`, or `kubectl align` by the name that kubectl looks for."""
    try:
        alignctl.main(prog_name="kubectl align" if is_plugin() else "alignctl")
    except BrokenPipeError:  # `alignctl … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

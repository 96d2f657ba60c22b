"""`alignctl gold`: a gold set from files of other tools. The worker's package knows rows and graders, and does it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import click

from alignment_operator.cli.errors import CommandError


@click.command(
    "gold", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_extra_args": True}
)
@click.pass_context
def command(context: click.Context) -> None:
    """Write a gold set from samples of lm-evaluation-harness, or from files with other columns."""
    if not importlib.util.find_spec("alignment_worker"):
        raise CommandError("not installed: alignment_worker. pip install 'alignment-operator[worker]'")
    done = subprocess.run([sys.executable, "-m", "alignment_worker.gold_import", *context.args], check=False)
    sys.exit(done.returncode)

"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _files(*, required: bool) -> Decorator:
    return click.option(
        "-f",
        "--filename",
        "files",
        type=click.Path(path_type=Path),
        multiple=True,
        required=required,
        help="A manifest, a folder of manifests (not of the folders in it), or - for stdin; may be given again.",
    )


files_option = _files(required=True)
files_or_name_option = _files(required=False)
state_option: Decorator = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder that stands for the cluster.  [default: .alignment]",
)
claims_option: Decorator = click.option(
    "--claim",
    "claims",
    metavar="NAME=DIR",
    multiple=True,
    help="The folder that pvc://NAME is. Without it: a folder NAME beside the manifest, else one in the state folder.",
)
secrets_option: Decorator = click.option(
    "--secret",
    "secrets",
    metavar="NAME/KEY=env:VARIABLE",
    multiple=True,
    help="The environment variable that holds the key of a Secret that a manifest names.",
)
output_option: Decorator = click.option(
    "-o",
    "--output",
    type=click.Choice(["json", "yaml"]),
    help="Print the object with its status, as kubectl does.",
)
iteration_option: Decorator = click.option(
    "--iteration", "number", type=click.IntRange(min=1), help="Its number.  [default: the last]"
)
namespace_option: Decorator = click.option(
    "-n", "--namespace", help="The namespace.  [default: the context's]"
)

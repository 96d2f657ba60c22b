"""Objects as `kubectl get -o` prints them, and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alignment_operator.api import Manifest

_FILE_WIDTH = 160  # of tables where there is no terminal
# What a terminal obeys, and what turns the order of reading.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Never an alias: kubectl prints none."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def print_object(manifest: Manifest, form: str) -> None:
    """`form` is json or yaml; like kubectl, without managedFields."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    click.echo(text_of({**manifest, "metadata": metadata}, form), nl=False)


def text_of(manifest: Manifest, form: str = "yaml") -> str:
    if form == "json":
        return json.dumps(manifest, indent=4, ensure_ascii=False) + "\n"
    text: str = yaml.dump(
        manifest, Dumper=_Dumper, allow_unicode=True, default_flow_style=False, width=120, sort_keys=False
    )
    return text


def console_for() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH)


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """As kubectl sets them: no lines, capitals above, nothing after the last word.

    Cells may hold what anybody asked a model: a terminal obeys none of it.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_OBEYED.sub("\ufffd", cell)) if isinstance(cell, str) else cell for cell in row))
    with console.capture() as captured:
        console.print(table)
    console.file.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

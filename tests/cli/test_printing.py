"""Tables for people."""

from __future__ import annotations

import io

from rich.console import Console

from alignment_operator.cli.printing import print_table


def test_a_terminal_obeys_no_cell() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, color_system=None)
    print_table(console, ("PROMPT",), [("a\x1b]0;title\x07b\x9b2J\u202ec",), ("é 好 👍",)])
    assert out.getvalue().splitlines()[1:] == ["a�]0;title�b�2J�c", "é 好 👍"]

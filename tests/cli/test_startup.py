"""What a command imports: the rest would be seconds of a user's life."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.manifests import CYCLE, write

HEAVY = {"torch", "transformers", "trl", "datasets", "numpy", "scipy", "kubernetes", "kopf", "aiohttp"}
PROGRAM = """
import json, sys
from alignment_operator.cli.main import main
sys.argv = ["alignctl", *sys.argv[1:]]
try:
    main()
except SystemExit:
    pass
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def imported_by(*arguments: str) -> set[str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_imports_click_alone() -> None:
    assert not imported_by("--help") & (HEAVY | {"pydantic", "yaml", "rich", "asyncio"})


@pytest.mark.parametrize("command", ["validate", "plan", "render"])
def test_looking_at_a_manifest_imports_nothing_heavy(tmp_path: Path, command: str) -> None:
    manifest = write(tmp_path / "cycle.yaml", CYCLE)
    imported = imported_by(command, "-f", str(manifest))
    assert "pydantic" in imported
    assert not imported & HEAVY


def test_looking_at_a_folder_imports_no_cluster(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    assert not imported_by("status", "--state", str(tmp_path)) & HEAVY


def test_every_command_explains_itself() -> None:
    from alignment_operator.cli.main import COMMANDS, alignctl  # noqa: PLC0415

    for name in COMMANDS:
        command = alignctl.get_command(alignctl.make_context("alignctl", [name]), name)
        assert command is not None
        assert command.name == name
        assert command.help

"""Commands that are printed can be copied: by the name or path that the program was called by."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from alignment_operator.cli.program import program

ALIGNCTL = str(Path(sys.prefix) / "bin" / "alignctl")


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PATH", os.defpath)
    return monkeypatch


def test_a_path_that_was_typed_is_printed(path: pytest.MonkeyPatch) -> None:
    path.setattr(sys, "argv", [ALIGNCTL])
    assert program() == ALIGNCTL


def test_what_the_path_leads_to_is_printed_by_name(path: pytest.MonkeyPatch) -> None:
    path.setattr(sys, "argv", [ALIGNCTL])
    path.setenv("PATH", str(Path(ALIGNCTL).parent))
    assert program() == "alignctl"


def test_the_plugin_is_printed_as_kubectl_calls_it(path: pytest.MonkeyPatch) -> None:
    path.setattr(sys, "argv", ["/usr/local/bin/kubectl-align"])
    assert program() == "kubectl align"

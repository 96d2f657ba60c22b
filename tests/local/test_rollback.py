"""Rollback of a local run: one command, and the next promotion waits for a person."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.local.commands import Alignctl

StandIn = Callable[..., Path]


def run(alignctl: Alignctl) -> Any:
    return alignctl.ended("run", "-f", str(alignctl.manifest))


def promoted(alignctl: Alignctl) -> dict[str, Any]:
    file = alignctl.state / "objects" / "alignmentcycles" / "default" / "assistant.json"
    found: dict[str, Any] = json.loads(file.read_text())["status"]["promoted"]
    return found


def test_one_command_puts_the_one_before_back_and_the_next_promotion_is_held(
    alignctl: Alignctl, stand_in: StandIn
) -> None:
    assert run(alignctl).returncode == 0
    first = promoted(alignctl)
    assert run(alignctl).returncode == 0
    done = alignctl.ended("rollback", "assistant", "--why", "ticket-123")
    assert done.returncode == 0, done.stderr
    assert "assistant: rollback 1@ticket-123" in done.stdout
    assert promoted(alignctl)["digest"] == first["digest"]
    assert "RolledBack" in alignctl.ended("history", "assistant").stdout
    held = run(alignctl)
    assert held.returncode == 4
    assert "what is promoted came by a rollback" in held.stdout
    assert alignctl.ended("approve", "assistant").returncode == 0
    assert run(alignctl).returncode == 0
    assert promoted(alignctl)["iteration"] == 3


def test_what_cannot_be_gone_back_to_is_an_error_at_once(alignctl: Alignctl, stand_in: StandIn) -> None:
    assert run(alignctl).returncode == 0
    done = alignctl.ended("rollback", "assistant", "--to", "7")
    assert done.returncode != 0
    assert "assistant: iteration 7 promoted nothing that is known and kept; choose of: 0" in done.stderr
    done = alignctl.ended("rollback", "assistant")
    assert "assistant: rollback 0@" in done.stdout
    assert promoted(alignctl)["iteration"] == 0
    assert "M_0 serves now" in done.stdout
    planned = alignctl.ended("plan", "-f", str(alignctl.manifest)).stdout
    assert "It is promoted once a person approves it" in " ".join(planned.split())


def test_a_second_one_goes_further_back_and_never_to_what_was_rolled_back(
    alignctl: Alignctl, stand_in: StandIn
) -> None:
    for _ in range(2):
        assert run(alignctl).returncode == 0
    for serves in (1, 0):
        assert alignctl.ended("rollback", "assistant").returncode == 0
        assert promoted(alignctl)["iteration"] == serves
    refused = alignctl.ended("rollback", "assistant")
    assert refused.returncode != 0
    assert "assistant: M_0 is what is promoted; choose of: 1" in refused.stderr
    assert alignctl.ended("rollback", "assistant", "--to", "1").returncode == 0
    assert promoted(alignctl)["iteration"] == 1

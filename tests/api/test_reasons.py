"""docs/reasons.md is where a user looks a reason up."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignment_api.conditions import Reason
from alignment_api.stage import STORE_FULL, ExitCode

PAGE = (Path(__file__).parents[2] / "docs" / "reasons.md").read_text()
CODES = [code for code in ExitCode if code is not ExitCode.DONE]


@pytest.mark.parametrize("reason", [*Reason, STORE_FULL])
def test_every_reason_is_explained(reason: str) -> None:
    assert f"`{reason}`" in PAGE


@pytest.mark.parametrize("code", CODES)
def test_every_exit_code_is_explained(code: ExitCode) -> None:
    assert f"| `{code.reason}` | {code.value} |" in PAGE

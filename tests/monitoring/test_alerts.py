"""The alerts are valid, sound when they should and only then, and each has a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.bed import REPOSITORY
from tests.monitoring.programs import program
from tests.monitoring.prometheus import ALERTS

UNIT_TESTS = Path(__file__).with_name("alerts_test.yaml")
_PAGES = "https://github.com/alignment-dev/alignment-operator/blob/main/"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.parametrize("arguments", [("check", "rules", str(ALERTS)), ("test", "rules", str(UNIT_TESTS))])
def test_promtool_has_nothing_against_them(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([str(program("promtool")), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_sound_and_to_be_silent() -> None:
    checks = [
        check for case in yaml.safe_load(UNIT_TESTS.read_text())["tests"] for check in case["alert_rule_test"]
    ]
    names = {rule["alert"] for rule in rules()}
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == names
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == names


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_its_runbook_says_what_it_means_how_to_look_and_what_to_do(rule: dict[str, Any]) -> None:
    url = rule["annotations"]["runbook_url"]
    file, _, heading = url.removeprefix(_PAGES).partition("#")
    assert heading == rule["alert"].lower()
    sections = re.split(r"(?m)^## ", (REPOSITORY / file).read_text())
    (section,) = [text for text in sections if text.startswith(f"{rule['alert']}\n")]
    for part in ("**Means.**", "**Look.**", "**Do.**"):
        assert part in section

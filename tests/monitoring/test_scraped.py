"""A real cycle, its operator scraped by a real Prometheus: every panel has data, every alert is evaluated."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignment_operator.api import CYCLE
from tests.cluster.bed import REPOSITORY, Bed
from tests.cluster.images import default_images, find_image
from tests.cluster.manifests import claim
from tests.cluster.waiting import DeadlineError, wait_until
from tests.monitoring.prometheus import DASHBOARD, Prometheus
from tests.monitoring.watched import Watched, watched
from tests.operator.edges import VERSION, cycle

pytest_plugins = ["tests.cluster.fixtures"]

SECONDS = 120.0
STAND_IN = Path(__file__).parent / "stand_in"
_VARIABLES = {
    "$namespace": ".*",
    "$cycle": ".*",
    "$gate": ".*",
    "$__rate_interval": "1m",
    "$__interval": "1m",
    "$__range": "5m",
}


@pytest.fixture
def promoting(new_bed: Callable[..., Bed], tmp_path: Path) -> Iterator[Watched]:
    real = find_image("alignment-dev/worker", default_images(REPOSITORY))
    assert real is not None
    path = os.pathsep.join([str(STAND_IN), str(REPOSITORY)])
    bed = new_bed(images=(replace(real, env={**real.env, "PYTHONPATH": path}),))
    with watched(bed, tmp_path) as found:
        yield found


def test_panels_alerts_and_progress_of_a_promoted_iteration(promoting: Watched) -> None:
    namespace = promoting.namespace
    for name in ("data", "models"):
        namespace.apply(claim(name))
    namespace.apply(dataset("feedback"))
    trigger = {"schedule": "0 3 * * 1", "newPairs": 1_000_000}
    namespace.apply(cycle("support", namespace.name, datasets=[{"name": "feedback"}], trigger=trigger))
    seen: set[str] = set()

    def promoted(it: dict[str, Any]) -> bool:
        iteration = it.get("status", {}).get("iteration", {})
        assert iteration.get("outcome") in {None, "Promoted"}, iteration
        seen.update(stage["name"] for stage in iteration.get("stages", ()) if "progress" in stage)
        return bool(iteration.get("outcome"))

    namespace.wait(CYCLE.api_version, CYCLE.plural, "support", promoted, "it is promoted", SECONDS)
    assert seen, "no stage ever said how far it was"
    assert panels_without_data(promoting.prometheus) == {}
    rules_are_evaluated(promoting.prometheus)


def dataset(name: str) -> dict[str, Any]:
    files = {"uri": "pvc://data/pairs.jsonl"}
    spec = {"store": {"uri": "pvc://data/store"}, "sources": [{"name": "a", "files": files}]}
    return {"apiVersion": VERSION, "kind": "PreferenceDataset", "metadata": {"name": name}, "spec": spec}


def panels_without_data(prometheus: Prometheus) -> dict[str, str]:
    """Expressions by the panel's title."""
    dashboard = json.loads(DASHBOARD.read_text())
    wanted = {
        f"{panel['title']}, {target['refId']}": settled(target["expr"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }

    def empty() -> dict[str, str]:
        now = time.time()
        return {
            title: expression
            for title, expression in wanted.items()
            if not prometheus.ask("query_range", query=expression, start=now - SECONDS, end=now, step=1)[
                "result"
            ]
        }

    left: dict[str, str] = {}

    def none_left() -> bool:
        nonlocal left
        left = empty()
        return not left

    try:
        wait_until(none_left, "every panel has data", 10)
    except DeadlineError:
        return left
    return {}


def settled(expression: str) -> str:
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def rules_are_evaluated(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    wait_until(lambda: all(rule["health"] != "unknown" for rule in rules()), "every rule was evaluated")
    assert [rule["name"] for rule in rules() if rule["health"] != "ok"] == []
    alerts = prometheus.ask("alerts")["alerts"]
    firing = {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}
    assert firing == set(), "a healthy cycle wakes nobody"

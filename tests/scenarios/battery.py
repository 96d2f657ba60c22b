"""A row of the table: a scenario's trials, and the sets of measurements that are drawn from them."""

from __future__ import annotations

from pathlib import Path

from tests.scenarios.resample import material, measured, resampled
from tests.scenarios.scenarios import SCENARIOS
from tests.scenarios.table import Ended, Row
from tests.scenarios.trial import trial


def row(name: str, seeds: int, sets: int, work: Path) -> Row:
    """Each seed has an equal part of `sets`. A trial that measured nothing stands for itself alone."""
    (scenario,) = (each for each in SCENARIOS if each.name == name)
    trials = [trial(scenario, seed, work) for seed in range(seeds)]
    runs = [Ended(each.outcome, each.reason) for each in trials]
    usable = [each for each in trials if measured(each)]
    part = -(-sets // len(usable)) if usable else 0
    drawn = [ended for each in usable for ended in resampled(material(each), part, each.seed)]
    return Row(scenario, runs, drawn)

"""What a row of the table counts: a scenario's trials, and the sets of measurements that are drawn from them."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from alignment_api import digests
from tests.scenarios.resample import material, measured, resampled
from tests.scenarios.scenarios import SCENARIOS
from tests.scenarios.table import Ended
from tests.scenarios.trial import ROOT, Trial, trial

_EXACT = ("divergence",)  # no draw changes what it finds: without it, luck alone decides
# Beside what a trial is kept by. If it is as it was, so are the sets.
_CODE = ("operator/alignment_operator/gates/*.py", "tests/scenarios/resample.py")


def outcomes(name: str, seeds: int, sets: int, work: Path) -> tuple[list[Ended], list[Ended], list[Ended]]:
    """A Row's runs, sets and by_luck. A scenario itself cannot pass between processes.

    Each seed has an equal part of `sets`. A trial that measured nothing stands for itself alone.
    """
    (scenario,) = (each for each in SCENARIOS if each.name == name)
    trials = [trial(scenario, seed, work) for seed in range(seeds)]
    runs = [Ended(each.outcome, each.reason) for each in trials]
    usable = [each for each in trials if measured(each)]
    part = -(-sets // len(usable)) if usable else 0
    drawn = [ended for each in usable for ended in _sets(each, part)]
    lucky = [ended for each in usable for ended in _sets(each, part, _EXACT)] if scenario.equal else []
    return runs, drawn, lucky


def _sets(of: Trial, count: int, without: tuple[str, ...] = ()) -> list[Ended]:
    """Kept beside the trial."""
    file = of.folder / "-without-".join(["sets", *without])
    file = file.with_suffix(".json")
    asked = digests.of_json([of.asked, count, _code()])
    kept = json.loads(file.read_text()) if file.is_file() else {}
    if kept.get("asked") != asked:
        drawn = resampled(material(of), count, of.seed, without)
        kept = {"asked": asked, "sets": [asdict(each) for each in drawn]}
        file.write_text(json.dumps(kept))
    return [Ended(**each) for each in kept["sets"]]


@cache
def _code() -> list[str]:
    return [file.read_text() for files in _CODE for file in sorted(ROOT.glob(files))]

"""All faults of the operator itself and of its Jobs, each on a run of its own, some runs at a time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from alignment_operator.cluster import connect
from tests.faults import hands
from tests.faults.bed import Site
from tests.faults.mortal import Death
from tests.faults.people import People
from tests.faults.scenarios import PROMOTED, REJECTED, SCENARIOS, SPREAD, Run, Scenario
from tests.faults.table import Row
from tests.faults.trial import Fault, Trial, Verdict
from tests.faults.witness import Witness

AT_ONCE = 14  # most of a run is waiting for the Job controller, which looks at most once a second
_AWAY_SECONDS = 5.0

SEVERAL_PODS = ((SPREAD, "sample"), (SPREAD, "train"))

Case = tuple[Scenario, Fault]


class Sweep:
    """Runs cases, and compares each with the run of its scenario that suffered nothing."""

    def __init__(self, site: Site, people: People) -> None:
        self.site = site
        self.people = people
        self.witness = people.witness
        self._numbers = itertools.count()
        self._ends: dict[str, dict[bool, str]] = {}
        self._free = asyncio.Semaphore(AT_ONCE)

    async def without_faults(self) -> Sequence[Verdict]:
        """To be done first: every other end is compared with these."""
        verdicts = await asyncio.gather(
            *(self.run(scenario, Fault("none")) for scenario in (*SCENARIOS, SPREAD))
        )
        for verdict in verdicts:
            ends = {exact: self.witness.state(verdict.run, exact=exact) for exact in (True, False)}
            self._ends[verdict.run.scenario.name] = ends
        return verdicts

    def end(self, scenario: Scenario, *, exact: bool) -> str:
        return self._ends[scenario.name][exact]

    def new_run(self, scenario: Scenario) -> Run:
        return self.site.run(f"run-{next(self._numbers):04}", scenario)

    async def run(self, scenario: Scenario, fault: Fault) -> Verdict:
        async with self._free:
            run = self.new_run(scenario)
            ends = self._ends.get(scenario.name)
            expected = ends.__getitem__ if ends else None
            verdict = await Trial(self.people, run, fault, expected).verdict()
        for violation in verdict.violations:
            print(f"{scenario.name}: {fault.name}: {violation}", file=sys.stderr, flush=True)
        return verdict

    async def row(self, name: str, cases: Iterable[Case]) -> Row:
        return Row(name, await asyncio.gather(*(self.run(scenario, fault) for scenario, fault in cases)))


@contextlib.asynccontextmanager
async def sweeping(site: Site) -> AsyncIterator[Sweep]:
    async with connect() as cluster:
        witness = Witness(cluster, site.namespace.name, site.store)
        async with witness.watching():
            yield Sweep(site, People(cluster, witness, site.namespace))


def rows(writes: Mapping[str, int]) -> Mapping[str, Sequence[Case]]:
    """By name. `writes`: how many each scenario makes without a fault."""
    each = [(scenario, number + 1) for scenario in SCENARIOS for number in range(writes[scenario.name])]
    stages = [(PROMOTED, stage) for stage in PROMOTED.stages] + [(REJECTED, "collect"), *SEVERAL_PODS]
    return {
        "operator killed before a write": [
            (scenario, Fault(f"before write {number}", (Death(number, "before"), None)))
            for scenario, number in each
        ],
        "operator killed after a write, before its answer": [
            (scenario, Fault(f"after write {number}", (Death(number, "after"), None)))
            for scenario, number in each
        ],
        "operator killed after a write, its caches a second behind": [
            (scenario, Fault(f"after write {number}, stale", (Death(number, "after"), None), stale=True))
            for scenario, number in each
        ],
        "operator killed after a write, and away for 5 s while people act": [
            (
                scenario,
                Fault(f"after write {number}, away", (Death(number, "after"), None), away=_AWAY_SECONDS),
            )
            for scenario, number in each
            if scenario.suspended
        ],
        **chains(),
        "two operators": two(),
        **by_hand(stages),
    }


def chains() -> Mapping[str, Sequence[Case]]:
    """Lives that are all cut short."""
    return {
        "operator killed after every write": [
            (scenario, Fault("after every write", (Death(1, "after"),))) for scenario in SCENARIOS
        ],
        "operator killed before every second write": [
            (scenario, Fault("before every second", (Death(2, "before"),))) for scenario in SCENARIOS
        ],
        "operator killed after every third write, its caches a second behind": [
            (scenario, Fault("after every third, stale", (Death(3, "after"),), stale=True))
            for scenario in SCENARIOS
        ],
    }


def two() -> Sequence[Case]:
    return [(scenario, Fault("two operators", operators=2)) for scenario in SCENARIOS]


def by_hand(stages: Sequence[tuple[Scenario, str]]) -> Mapping[str, Sequence[Case]]:
    return {
        "Job deleted by hand": [
            (scenario, hands.in_stage("Job deleted", stage, hands.delete_job, made_again=1))
            for scenario, stage in stages
        ],
        "pod deleted by hand": [
            (
                scenario,
                hands.in_stage("pod deleted", stage, hands.delete_pod, made_again=_lost(scenario, stage)),
            )
            for scenario, stage in stages
        ],
        "pod evicted": [
            (scenario, hands.in_stage("pod evicted", stage, hands.evict, made_again=_lost(scenario, stage)))
            for scenario, stage in stages
        ],
    }


def _lost(scenario: Scenario, stage: str) -> int:
    """Jobs that are lost with one of their pods: those whose pods compute together."""
    return int((scenario, stage) == (SPREAD, "train"))

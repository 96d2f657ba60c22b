"""One run under one fault: lives of the operator one after another, and at its end the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from kubernetes.aio.client import ApiClient

from alignment_api import names
from alignment_operator.api import CYCLE
from alignment_operator.cluster import Cluster, login
from alignment_operator.reconcile import one_pass
from tests.chart.audit import Access
from tests.faults.life import SETTINGS, Life
from tests.faults.mortal import Death, KilledError, Mortal
from tests.faults.people import People
from tests.faults.scenarios import Run
from tests.faults.witness import Witness

SECONDS = 600.0  # far more than it takes, however busy the machine is
RESYNCS = 3

Hand = Callable[[People, Run], Awaitable[None]]


@dataclass
class Verdict:
    """What a run came to. `writes`: of each life of its operator, `used`: for RBAC; `faults`: how many it suffered."""

    run: Run
    faults: int = 0
    writes: list[list[str]] = field(default_factory=list)
    used: set[Access] = field(default_factory=set)
    twice: int = 0
    after_the_end: int = 0
    violations: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fault:
    """`deaths`: of the operator's lives in turn, the last of them again and again; `away`: for so many seconds after
    each; `hand`: what a person does.

    `exact`: in the end nothing shows it. A Job that a person deletes is made again, which shows as an attempt.
    `made_again`: Jobs that are rightly made for the second time.
    """

    name: str
    deaths: Sequence[Death | None] = (None,)
    stale: bool = False
    away: float = 0
    operators: int = 1
    hand: Hand | None = None
    held: str = ""
    exact: bool = True
    made_again: int = 0


@dataclass
class Trial:
    """`expected`: the state at the end of the run without a fault; None: this is that run."""

    people: People
    run: Run
    fault: Fault
    expected: Callable[[bool], str] | None = None
    _over: bool = False

    async def verdict(self) -> Verdict:
        verdict = Verdict(self.run)
        self.run.prepare(*filter(None, [self.fault.held]))
        owners = await create(self.people.cluster, self.run)
        try:
            async with asyncio.timeout(SECONDS), _operators() as client, asyncio.TaskGroup() as tasks:
                lives = [
                    tasks.create_task(self._lives(client, owners, verdict))
                    for _ in range(self.fault.operators)
                ]
                people = [tasks.create_task(person) for person in self.people.of(self.run)]
                if self.fault.hand:
                    await self.fault.hand(self.people, self.run)
                    verdict.faults += 1
                while not self._ended():
                    await self.people.witness.change(self.run)
                self._over = True
                for task in (*lives, *people):
                    task.cancel()
        except TimeoutError:
            verdict.violations.append(f"it did not end as without a fault:\n{self._difference()}")
        await judge(self.people.witness, verdict)
        verdict.twice -= self.fault.made_again
        return verdict

    async def _lives(self, client: ApiClient, owners: tuple[str, ...], verdict: Verdict) -> None:
        """They share connections, which no fault depends on and which would take most of their time."""
        deaths = iter(self.fault.deaths)
        death = None
        while not self._over:
            death = next(deaths, death)
            mortal = Mortal(client, death, stale=self.fault.stale)
            verdict.writes.append(mortal.writes)
            try:
                await Life(mortal, self.run.namespace, self.run.name, owners).run()
            except* KilledError:
                verdict.faults += 1
            finally:
                verdict.used |= mortal.used
            await asyncio.sleep(self.fault.away)

    def _ended(self) -> bool:
        if self.expected is None:
            return done(self.people.witness, self.run)
        return self.people.witness.state(self.run, exact=self.fault.exact) == self.expected(self.fault.exact)

    def _difference(self) -> str:
        expected = self.expected(self.fault.exact) if self.expected else ""
        return difference(expected, self.people.witness.state(self.run, exact=self.fault.exact))


async def create(cluster: Cluster, run: Run) -> tuple[str, ...]:
    """UIDs of the run's objects."""
    for kind, manifest in run.surroundings():
        await cluster.create(kind, manifest)
    made = [await cluster.create(kind, manifest) for kind, manifest in run.objects()]
    if status := run.status():
        await cluster.replace_status(CYCLE, {**made[-1], "status": status})
    return tuple(manifest["metadata"]["uid"] for manifest in made)


def done(witness: Witness, run: Run) -> bool:
    """Whether all is done that the scenario does; asked of a run without a fault."""
    status = witness.one(CYCLE, run).get("status", {})
    iteration = status.get("iteration", {})
    outcome = iteration.get("outcome")
    assert outcome in {None, run.scenario.outcome}, iteration
    last = run.scenario.iterations
    jobs = [job for stage in run.scenario.stages for job in witness.jobs(run, stage, last)]
    synced = {row["type"]: row["reason"] for row in status.get("conditions", ())}.get("TargetsSynced")
    return (
        outcome is not None
        and iteration["number"] == last
        and len(jobs) == len(run.scenario.stages)
        and all("ttlSecondsAfterFinished" in job["spec"] for job in jobs)
        and (outcome != "Promoted" or synced == "Synced")
    )


async def judge(witness: Witness, verdict: Verdict) -> None:
    """Look at what is left, and at what more passes over it write."""
    run = verdict.run
    async with _operators() as client:
        resync = Mortal(client)
        for _ in range(RESYNCS):
            for kind, _ in run.objects():
                await one_pass(resync, kind, run.namespace, run.name, datetime.now(UTC), SETTINGS)
    written = [*resync.writes, *resync.refused]
    verdict.after_the_end = len(written)
    verdict.twice = witness.twice(run)
    verdict.violations += witness.violations(run)
    verdict.violations += [f"written after the end: {write}" for write in written]


@contextlib.asynccontextmanager
async def _operators() -> AsyncIterator[ApiClient]:
    async with ApiClient(await login()) as client:
        client.user_agent = names.FIELD_MANAGER
        yield client


def difference(expected: str, found: str) -> str:
    lines = difflib.unified_diff(
        expected.splitlines(), found.splitlines(), "without", "with", lineterm="", n=2
    )
    return "\n".join(lines)

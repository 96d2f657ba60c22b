"""Faults of the real process, of its watches and of the API server, while runs stand in every phase that there is."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.cluster.processes import Child
from tests.faults.mortal import Death
from tests.faults.people import waits
from tests.faults.proxy import Proxy
from tests.faults.scenarios import APPROVAL, HELD, PROMOTED, REJECTED, SCENARIOS, Run, Scenario
from tests.faults.sweep import Sweep
from tests.faults.table import Row
from tests.faults.trial import SECONDS, Verdict, create, difference, judge

PHASES = (*((PROMOTED, stage) for stage in PROMOTED.stages), (REJECTED, "collect"), (HELD, APPROVAL))
_NOT_HELD = tuple((scenario, "") for scenario in SCENARIOS)
_DROPPED_SECONDS = 60.0
_DOWN_SECONDS = 5.0
_WRITES_A_LIFE = 7


@dataclass
class Batch:
    """Runs under the same operators, which reach the API server through the proxy."""

    sweep: Sweep
    proxy: Proxy
    kubeconfig: Path
    folder: Path
    runs: Sequence[tuple[Run, str]] = ()  # each with the stage that it is held in, if any
    operators: list[Child] = field(default_factory=list)
    faults: int = 0

    def start(self) -> None:
        """One more operator."""
        argv = [sys.executable, "-m", "alignment_operator.runtime.main", "run", "--worker-image", "stand-in"]
        argv += ["--health-port", "0", "--metrics-port", "0", "-n", self.sweep.site.namespace.name]
        log = self.folder / f"operator-{len(self.operators)}.log"
        operator = Child("operator", argv, log, os.environ | {"KUBECONFIG": str(self.kubeconfig)})
        operator.start()
        self.operators.append(operator)

    def release(self) -> None:
        """Let all runs go on."""
        for run, held in self.runs:
            if held:
                run.release(held)
            self.sweep.witness.wake(run.name)


Disturb = Callable[[Batch], Awaitable[None]]


async def disturbed(sweep: Sweep, name: str, folder: Path) -> Row:
    """`name` is one of DISTURBANCES."""
    proxy = Proxy(sweep.site.bed.kubeconfig)
    phases, disturb = DISTURBANCES[name]
    async with proxy.serving(folder) as kubeconfig:
        batch = Batch(sweep, proxy, kubeconfig, folder)
        try:
            return Row(name, await _verdicts(batch, phases, disturb))
        finally:
            for operator in batch.operators:
                operator.kill()


async def _verdicts(batch: Batch, phases: Sequence[tuple[Scenario, str]], disturb: Disturb) -> list[Verdict]:
    sweep = batch.sweep
    batch.runs = [(sweep.new_run(scenario), held) for scenario, held in phases]
    for run, held in batch.runs:
        run.prepare(*filter(None, [held]))
        await create(sweep.people.cluster, run)
    batch.start()
    async with asyncio.TaskGroup() as tasks:
        people = [tasks.create_task(each) for run, _ in batch.runs for each in sweep.people.of(run)]
        async with asyncio.timeout(SECONDS):
            for run, held in batch.runs:
                await _until_held(sweep, run, held)
        await disturb(batch)
        verdicts = [await _ended(batch, run) for run, _ in batch.runs]
        for task in people:
            task.cancel()
    for verdict in verdicts:
        await judge(sweep.witness, verdict)
        for violation in verdict.violations:
            print(f"{verdict.run.scenario.name}: {violation}", file=sys.stderr, flush=True)
    verdicts[0].faults = batch.faults
    return verdicts


async def _until_held(sweep: Sweep, run: Run, held: str) -> None:
    if held == APPROVAL:
        while not waits(sweep.witness, run):
            await sweep.witness.change(run)
    elif held:
        await sweep.people.running(run, held)


async def _ended(batch: Batch, run: Run) -> Verdict:
    witness, expected = batch.sweep.witness, batch.sweep.end(run.scenario, exact=True)
    verdict = Verdict(run)
    try:
        async with asyncio.timeout(SECONDS):
            while witness.state(run) != expected:
                await witness.change(run)
    except TimeoutError:
        verdict.violations.append(
            f"it did not end as without a fault:\n{difference(expected, witness.state(run))}"
        )
    return verdict


async def _killed(batch: Batch) -> None:
    batch.operators[0].kill()
    batch.release()
    batch.operators[0].start()
    batch.faults = 1


async def _killed_again_and_again(batch: Batch) -> None:
    """By the proxy, at every seventh write, before it and after it in turn."""
    proxy, operator = batch.proxy, batch.operators[0]
    when: itertools.cycle[Literal["before", "after"]] = itertools.cycle(("before", "after"))

    def kill() -> None:
        operator.kill()
        batch.faults += 1
        proxy.death = Death(proxy.writes + _WRITES_A_LIFE, next(when))
        asyncio.get_running_loop().call_soon(operator.start)

    proxy.death, proxy.kill = Death(proxy.writes + _WRITES_A_LIFE, next(when)), kill


async def _api_server_killed(batch: Batch) -> None:
    control_plane = batch.sweep.site.bed.control_plane
    control_plane.components["kube-apiserver"].kill()
    batch.release()
    await asyncio.sleep(_DOWN_SECONDS)
    control_plane.components["kube-apiserver"].start()
    await asyncio.to_thread(control_plane.wait_ready)
    batch.faults = 1


def _watches(are: Literal["Cut", "Silent"]) -> Disturb:
    async def disturb(batch: Batch) -> None:
        batch.proxy.watches(are)
        batch.release()
        await asyncio.sleep(_DROPPED_SECONDS)
        batch.proxy.watches("Open")
        batch.faults = 1

    return disturb


async def _two(batch: Batch) -> None:
    batch.start()
    batch.release()
    batch.faults = 1


DISTURBANCES: dict[str, tuple[Sequence[tuple[Scenario, str]], Disturb]] = {
    "process killed (SIGKILL), runs in every phase": (PHASES, _killed),
    "process killed (SIGKILL) at every seventh write": (_NOT_HELD, _killed_again_and_again),
    "API server killed for 5 s, runs in every phase": (PHASES, _api_server_killed),
    "watches cut for 60 s, runs in every phase": (PHASES, _watches("Cut")),
    "watches silent for 60 s, runs in every phase": (PHASES, _watches("Silent")),
    "a second process, runs in every phase": (PHASES, _two),
}

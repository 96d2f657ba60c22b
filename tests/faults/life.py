"""One life of the operator, in this process: all that `runtime.operator` joins, but kopf, whose part a reflector takes.

What it knows is made at its start and dropped at its end, so that hundreds of deaths take minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from alignment_api import names
from alignment_operator.api import CONFIG_MAP, CYCLE, DATASET, JOB, Manifest
from alignment_operator.observe.jobs import slim
from alignment_operator.observed import Settings
from alignment_operator.runtime.controller import Controller
from alignment_operator.runtime.metrics import Live, Metrics
from alignment_operator.runtime.reflector import Reflector, Selection
from tests.faults.mortal import Mortal

SETTINGS = Settings(worker_image="stand-in")
WORKERS = 2


class Life:
    """Serves the objects of one run alone: other lives serve others beside it."""

    def __init__(self, cluster: Mortal, namespace: str, run: str, owners: tuple[str, ...]) -> None:
        metrics = Metrics("0", lambda: Live(0, 0.0, {}))
        self._controller = Controller(cluster, SETTINGS, lambda _, uid: self._jobs.grouped(uid), metrics)
        self._jobs = Reflector(
            cluster,
            Selection(JOB, namespace, f"{names.LABEL_OWNER_UID} in ({','.join(owners)})"),
            slim=slim,
            group=lambda job: str(job["metadata"]["labels"][names.LABEL_OWNER_UID]),
            changed=self._controller.heard_of_job,
        )
        targets = _whole(cluster, Selection(CONFIG_MAP, namespace, f"{names.LABEL_CYCLE}={run}"))
        cycles = _whole(cluster, Selection(CYCLE, namespace, f"run={run}"))
        datasets = _whole(cluster, Selection(DATASET, namespace, f"run={run}"))
        targets.changed = self._controller.heard_of_target
        cycles.changed = _heard(self._controller.heard_of_cycle)
        datasets.changed = _heard(self._controller.heard_of_dataset)
        self._reflectors = (self._jobs, targets, cycles, datasets)

    async def run(self) -> None:
        """Until it is cancelled. Raises a group with a KilledError in it."""
        async with asyncio.TaskGroup() as tasks:
            for reflector in self._reflectors:
                tasks.create_task(reflector.run())
            for _ in range(WORKERS):
                tasks.create_task(self._work())

    async def _work(self) -> NoReturn:
        for reflector in self._reflectors:
            await reflector.synced.wait()
        await self._controller.work()


def _heard(of: Callable[..., None]) -> Callable[[Manifest | None, Manifest | None], None]:
    """As kopf tells it."""
    return lambda now, before: of(now or before, deleted=now is None)


def _whole(cluster: Mortal, selection: Selection) -> Reflector:
    def nothing(_: Manifest | None, __: Manifest | None) -> None:
        """Said again by the caller."""

    return Reflector(cluster, selection, slim=lambda it: it, group=lambda _: "", changed=nothing)

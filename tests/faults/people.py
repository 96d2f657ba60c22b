"""What people and Kueue do to a run, while the operator lives and dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from alignment_api import names
from alignment_operator.api import CYCLE, POD, Manifest
from alignment_operator.cluster import UNREACHABLE, Cluster
from alignment_operator.observe.jobs import LABEL_POD_OF
from tests.cluster.client import Namespace
from tests.faults.scenarios import Run
from tests.faults.witness import Witness, is_over
from tests.operator.kueue import Kueue

_TRY_AGAIN_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 1.0


@dataclass
class People:
    cluster: Cluster
    witness: Witness
    namespace: Namespace

    def of(self, run: Run) -> Sequence[Coroutine[Any, Any, None]]:
        """All that act in its scenario; Kueue does so until it is cancelled."""
        scenario = run.scenario
        return (
            *([self.approve(run)] if scenario.waits else []),
            *([self.suspend(run)] if scenario.suspended else []),
            *([self.cancel(run)] if scenario.cancelled else []),
            *([self.play_kueue(run)] if scenario.queue else []),
        )

    async def approve(self, run: Run) -> None:
        """As soon as the run waits for it."""
        while not (waits(self.witness, run) and run.approvable):
            await self.witness.change(run)
        await self._say(run, "approve", f"1@{self._iteration(run)['evidenceDigest']}")

    async def suspend(self, run: Run) -> None:
        """In each of the stages, while it computes, and not for longer than until its pods are gone."""
        for stage in run.scenario.suspended:
            job, _ = await self.running(run, stage)
            await self._patch(run, {"spec": {"suspend": True}})
            await self._until_suspended(run, job)
            await self._patch(run, {"spec": {"suspend": False}})
            await self.running(run, stage)
            run.release(stage)

    async def cancel(self, run: Run) -> None:
        """Each iteration, as soon as its status says that its first stage runs; then ask for the next."""
        for number in range(1, run.scenario.cancelled + 1):
            if number > 1:
                await self._say(run, "run", str(number))
            while not self._runs(run, number):
                await self.witness.change(run)
            await self._say(run, "cancel", str(number))
            while not self._iteration(run).get("outcome"):
                await self.witness.change(run)

    async def play_kueue(self, run: Run) -> None:
        """Jobs are admitted as they come; one whose Workload is made inactive is evicted until it is active again."""
        admitted: dict[str, tuple[Kueue, bool]] = {}
        preempted = False
        while True:
            for job in [each for each in self.witness.all_jobs(run) if not is_over(each)]:
                metadata = job["metadata"]
                if metadata["uid"] not in admitted:
                    kueue = await asyncio.to_thread(Kueue, self.namespace, metadata["name"])
                    admitted[metadata["uid"]] = kueue, False
                kueue, in_ = admitted[metadata["uid"]]
                wanted = await asyncio.to_thread(kueue.active)
                if wanted and not in_:
                    await asyncio.to_thread(kueue.admits, {})
                elif in_ and not wanted:
                    await asyncio.to_thread(kueue.evicts, "The workload is deactivated")
                admitted[metadata["uid"]] = kueue, wanted
                if metadata["labels"][names.LABEL_STAGE] == run.scenario.preempted and not preempted:
                    preempted = True
                    await self.running(run, run.scenario.preempted)
                    await asyncio.to_thread(kueue.evicts, "Preempted by a workload of higher priority")
                    await asyncio.to_thread(kueue.admits, {})
                    run.release(run.scenario.preempted)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_AGAIN_SECONDS):  # of a Workload the witness hears nothing
                    await self.witness.change(run)

    async def running(self, run: Run, stage: str) -> tuple[Manifest, Manifest]:
        """The stage's Job in the first iteration and one of its pods, as soon as all of them compute."""
        while not (ready := [job for job in self.witness.jobs(run, stage, 1) if _computes(job)]):
            await self.witness.change(run)
        metadata = ready[0]["metadata"]
        pods = await self.cluster.list(POD, metadata["namespace"], {LABEL_POD_OF: metadata["uid"]})
        return ready[0], next(pod for pod in pods if "deletionTimestamp" not in pod["metadata"])

    async def _until_suspended(self, run: Run, job: Manifest) -> None:
        """Or gone, which others find fault with."""
        while any(_is_up(each, job["metadata"]["uid"]) for each in self.witness.all_jobs(run)):
            await self.witness.change(run)

    async def _say(self, run: Run, verb: str, value: str) -> None:
        await self._patch(run, {"metadata": {"annotations": {names.verb_annotation(verb): value}}})

    async def _patch(self, run: Run, patch: Manifest) -> None:
        """Again and again while the server is away."""
        while True:
            try:
                await self.cluster.merge(CYCLE, run.namespace, run.name, patch)
            except UNREACHABLE:
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
            else:
                return

    def _runs(self, run: Run, number: int) -> bool:
        iteration = self._iteration(run)
        stages = iteration.get("stages") or [{}]
        return iteration.get("number") == number and stages[0].get("state") == "Running"

    def _iteration(self, run: Run) -> Manifest:
        found: Manifest = self.witness.one(CYCLE, run).get("status", {}).get("iteration", {})
        return found


def waits(witness: Witness, run: Run) -> bool:
    """For a person's approval."""
    iteration = witness.one(CYCLE, run).get("status", {}).get("iteration", {})
    return bool(iteration.get("evidenceDigest"))


def _computes(job: Manifest) -> bool:
    ready: int = job["status"].get("ready") or 0
    return ready >= job["spec"]["parallelism"] and not is_over(job) and not job["spec"].get("suspend")


def _is_up(job: Manifest, uid: str) -> bool:
    status = job["status"]
    pods = status.get("active") or status.get("terminating")
    return bool(job["metadata"]["uid"] == uid and (pods or not job["spec"].get("suspend")))

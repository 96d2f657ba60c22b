"""A cycle whose training wants two nodes, in a queue that lets nobody in: an iteration without its computation."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.cluster.api import Json
from tests.cluster.client import Namespace
from tests.cluster.waiting import wait_until
from tests.operator.kueue import Kueue, serve_workloads

CYCLES = ("alignment.dev/v1alpha1", "alignmentcycles")
_SECONDS = 120.0


@dataclass(frozen=True)
class Gang:
    """`name` is that of the cycle, which is there."""

    namespace: Namespace
    name: str

    def start(self, number: int) -> Json:
        """Iteration `number`; returns the Job that trains."""
        self._say("run", number)
        return self.job(number)

    def job(self, number: int, but_not: str = "") -> Json:
        """The Job of an iteration, as soon as there is one with another UID than this."""

        def look() -> Json | None:
            return next((job for job in self._jobs(number) if job["metadata"]["uid"] != but_not), None)

        return wait_until(look, f"the Job of iteration {number}", _SECONDS)

    def suspend_and_resume(self, job: Json) -> None:
        """Returns when the Job was held back in its queue, and let in again, by its Workload."""
        serve_workloads(self.namespace.client)
        kueue = Kueue(self.namespace, job["metadata"]["name"])
        self._suspend(to=True)
        wait_until(lambda: not kueue.active(), "its Workload is held back", _SECONDS)
        self._suspend(to=False)
        wait_until(kueue.active, "its Workload is let in again", _SECONDS)

    def cancel(self, number: int) -> None:
        """Returns when the iteration has ended, and its Job is gone."""

        def cancelled(seen: Json) -> bool:
            iteration = seen["status"].get("iteration", {})
            return bool(iteration.get("number") == number and iteration.get("outcome") == "Cancelled")

        self._say("cancel", number)
        self.namespace.wait(*CYCLES, self.name, cancelled, f"iteration {number} is cancelled", _SECONDS)
        wait_until(lambda: not self._jobs(number), f"the Job of iteration {number} is gone", _SECONDS)

    def until_revisions(self, most: int) -> None:
        """Returns when no more than these are left of what its iterations froze."""
        selector = f"alignment.dev/cycle={self.name}"

        def few() -> bool:
            return len(self.namespace.list("apps/v1", "controllerrevisions", selector)) <= most

        wait_until(few, f"at most {most} revisions are left", _SECONDS)

    def _say(self, verb: str, number: int) -> None:
        annotation = f"alignment.dev/{verb}={number}"
        self.namespace.kubectl("annotate", "--overwrite", "alignmentcycle", self.name, annotation)

    def _suspend(self, *, to: bool) -> None:
        patch = json.dumps({"spec": {"suspend": to}})
        self.namespace.kubectl("patch", "alignmentcycle", self.name, "--type=merge", "-p", patch)

    def _jobs(self, number: int) -> list[Json]:
        selector = (
            f"alignment.dev/cycle={self.name},alignment.dev/stage=train,alignment.dev/iteration={number}"
        )
        return [*self.namespace.list("batch/v1", "jobs", selector)]

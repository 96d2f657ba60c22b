"""The life of one pod on the process node."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.api import ApiError, Json, Unreachable
from tests.cluster.runner import KILLED, ContainerRunner, Host, PodContext
from tests.cluster.status import Role, now, pod_status
from tests.cluster.volumes import NotMountableError, Volumes

log = logging.getLogger(__name__)

# Put on a pod, with a container's name as its value: that container is killed as if it were out of memory.
OOM_ANNOTATION = "test-bed/oom-kill"

_RETRY_SECONDS = 0.2
_MOUNT_SECONDS = 1.0
_TERMINAL = {"Succeeded", "Failed"}


class PodRunner:
    """Runs a pod from its binding to its end and keeps its status true. `task` ends when the pod is gone."""

    def __init__(self, pod: Json, host: Host) -> None:
        metadata = pod["metadata"]
        self.name = f"{metadata['namespace']}/{metadata['name']}"
        self._uid: str = metadata["uid"]
        self._path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
        self._host = host
        self._context = PodContext(
            host=host,
            pod=pod,
            folder=host.folder / "pods" / self._uid,
            logs=host.folder / "logs" / f"{self.name.replace('/', '_')}_{self._uid}",
            changed=self._changed,
        )
        self._containers = [ContainerRunner(self._context, spec, role) for spec, role in _roles(pod)]
        self._volumes = Volumes(host.api, self._context.folder / "volumes", host.allocatable)
        self._stop = asyncio.Event()
        self._dirty = asyncio.Event()
        self._gone = False
        self._over = False
        self._fate: Json = {}
        self._start_time: str = pod.get("status", {}).get("startTime") or now()
        self._written: Json = pod.get("status", {})
        self._oom_killed = ""
        self._hurrying: asyncio.Task[None] | None = None
        self.task = asyncio.create_task(self._run(), name=self.name)
        self.update(pod)

    def update(self, pod: Json) -> None:
        """Take in a new version of the object."""
        old, self._context.pod = self._context.pod, pod
        metadata = pod["metadata"]
        victim = metadata.get("annotations", {}).get(OOM_ANNOTATION, "")
        if victim != self._oom_killed:
            self._oom_killed = victim
            for container in self._containers:
                if container.name == victim:
                    container.kill_out_of_memory()
        if any(metadata.get(key) != old["metadata"].get(key) for key in ("labels", "annotations")):
            self._volumes.refresh(pod)
        if metadata.get("deletionTimestamp"):
            self._stop.set()
            sooner = metadata.get("deletionGracePeriodSeconds") != old["metadata"].get(
                "deletionGracePeriodSeconds"
            )
            if sooner and old["metadata"].get("deletionTimestamp"):
                self._hurry()

    def vanish(self) -> None:
        """The object is gone; its processes follow."""
        self._gone = True
        self._stop.set()
        self._hurry()

    def log_file(self, container: str) -> Path | None:
        """The log of a container's latest run, if it ran."""
        files = sorted((self._context.logs / container).glob("*.log"), key=lambda path: int(path.stem))
        return files[-1] if files else None

    @property
    def over(self) -> bool:
        """Whether nothing of it will ever run again."""
        return self._over

    async def end(self) -> None:
        """End its processes without a word to the API server: the node itself is going down."""
        self._gone = True
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self._end_all(0)

    def _changed(self) -> None:
        self._dirty.set()

    def _hurry(self) -> None:
        """End it under a grace that has become shorter."""
        self._hurrying = asyncio.create_task(self._end_all(self._grace_seconds()))

    async def _run(self) -> None:
        reporter = asyncio.create_task(self._report())
        try:
            if self._written.get("phase") not in _TERMINAL:
                await self._live()
            self._over = True
            self._changed()
            await reporter
            await self._stop.wait()
            await self._delete_object()
        finally:
            reporter.cancel()
        await asyncio.to_thread(shutil.rmtree, self._context.folder, ignore_errors=True)

    async def _live(self) -> None:
        """Return when its containers have ended, by themselves or because somebody asked for it."""
        if self._lost_by_a_restart():
            return
        self._changed()
        work = asyncio.create_task(self._work())
        stop = asyncio.create_task(self._stop.wait())
        try:
            limit = self._context.pod["spec"].get("activeDeadlineSeconds")
            done, _ = await asyncio.wait({work, stop}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                self._fate = {
                    "reason": "DeadlineExceeded",
                    "message": "Pod was active longer than its deadline",
                }
            elif work in done and (error := work.exception()):
                log.error("pod %s", self.name, exc_info=error)
                self._fate = {"reason": "ProcessNodeError", "message": repr(error)}
        finally:
            work.cancel()
            stop.cancel()
        await self._end_all(self._grace_seconds())

    def _lost_by_a_restart(self) -> bool:
        """Take over what an earlier process of this node had reported; whether that leaves nothing to run."""
        reported = {
            row["name"]: row
            for key in ("initContainerStatuses", "containerStatuses")
            for row in self._written.get(key, ())
        }
        lost = False
        for container in self._containers:
            row = reported.get(container.name, {})
            container.state.restarts = row.get("restartCount", 0)
            if "running" in row.get("state", {}):
                container.state.run(row.get("containerID", ""))
                container.state.end(KILLED, "ContainerStatusUnknown", "the node was started again meanwhile")
                container.state.restarts += 1
                lost = True
            elif "terminated" in row.get("state", {}):
                container.state.waiting, container.state.terminated = None, row["state"]["terminated"]
        return lost and self._context.pod["spec"].get("restartPolicy") == "Never"

    async def _work(self) -> None:
        await self._mount()
        for container in self._containers:
            if container.state.role == "sidecar":
                container.begin()
                await container.until_started()
            elif container.state.role == "init":
                await asyncio.wait({container.begin()})
                if not container.state.ready:
                    return
        mains = {each.begin() for each in self._containers if each.state.role == "main"}
        done, _ = await asyncio.wait(mains, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def _mount(self) -> None:
        pause = 0.1
        while True:
            try:
                self._context.volumes = await self._volumes.make(self._context.pod)
            except (NotMountableError, ApiError, OSError, *Unreachable) as error:
                for container in self._containers:
                    container.state.wait("ContainerCreating", str(error) or repr(error))
                self._changed()
            else:
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MOUNT_SECONDS)

    async def _end_all(self, grace_seconds: float) -> None:
        """End what still runs: the main containers first, then the sidecars, the last one first."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + grace_seconds
        others = [each for each in self._containers if each.state.role != "sidecar"]
        await asyncio.gather(*(each.stop(grace_seconds) for each in others))
        for container in reversed(self._containers):
            if container.state.role == "sidecar":
                # Even if the others took all the time, it is asked before it is killed.
                await container.stop(max(deadline - clock(), min(2.0, grace_seconds)))

    def _grace_seconds(self) -> float:
        if self._gone:
            return 1.0
        pod = self._context.pod
        given = pod["metadata"].get("deletionGracePeriodSeconds")
        return float(pod["spec"].get("terminationGracePeriodSeconds", 30) if given is None else given)

    async def _report(self) -> None:
        """Write the status when it changed, one write at a time: what changes meanwhile goes into the next."""
        while not (self._over and not self._dirty.is_set()):
            await self._dirty.wait()
            self._dirty.clear()
            if self._gone or self._written.get("phase") in _TERMINAL:
                continue
            states = [each.state for each in self._containers]
            over = self._over
            status = pod_status(self._context.pod, self._written, states, self._start_time, over) | self._fate
            if status != self._written:
                await self._insist(status)
                self._written = status

    async def _insist(self, status: Json) -> None:
        """Write a status, across restarts of the API server, until it is written or the pod is gone."""
        body = {"metadata": {"uid": self._uid}, "status": status}
        while not self._gone:
            try:
                await self._host.api.patch(f"{self._path}/status", body)
            except ApiError as error:
                if error.status in {404, 409, 422}:
                    log.info("status of pod %s: %s", self.name, error)
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            except Unreachable:
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _delete_object(self) -> None:
        """Tell the API server that the pod has ended; finalizers may keep its object for a while."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self._uid}}
        while not self._gone:
            try:
                await self._host.api.delete(self._path, options)
            except (ApiError, *Unreachable):
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return


def _roles(pod: Json) -> Iterator[tuple[Json, Role]]:
    for spec in pod["spec"].get("initContainers", ()):
        yield spec, "sidecar" if spec.get("restartPolicy") == "Always" else "init"
    for spec in pod["spec"]["containers"]:
        yield spec, "main"

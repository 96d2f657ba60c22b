"""The status of a pod from the states of its containers, by the kubelet's rules. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from tests.cluster.api import Json

Role = Literal["init", "sidecar", "main"]
ADDRESS = "127.0.0.1"


def address_of(pod: Json) -> str:
    """The pod's own address, on the loopback like all others: who listens on it alone collides with no other pod."""
    first, second, third = hashlib.sha256(pod["metadata"]["uid"].encode()).digest()[:3]
    return f"127.{1 + first % 254}.{second}.{1 + third % 254}"


def now() -> str:
    """This moment as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class ContainerState:
    """What is known of one container. Exactly one of waiting, running and terminated is set."""

    spec: Json
    role: Role
    waiting: Json | None
    running: Json | None = None
    terminated: Json | None = None
    last_terminated: Json | None = None
    restarts: int = 0
    started: bool = False
    passes: bool = False
    container_id: str = ""

    def wait(self, reason: str, message: str = "") -> None:
        """It waits; how it ended last, if it ran, is kept as its last state."""
        self.last_terminated = self.terminated or self.last_terminated
        self.terminated = self.running = None
        self.waiting = {"reason": reason} | ({"message": message} if message else {})
        self.started = self.passes = False

    def run(self, container_id: str) -> None:
        """It runs from now on."""
        self.last_terminated = self.terminated or self.last_terminated
        self.waiting = self.terminated = None
        self.running = {"startedAt": now()}
        self.container_id = container_id

    def end(self, code: int, reason: str, message: str) -> None:
        """It ended just now."""
        moment = now()
        began = (self.running or {"startedAt": moment})["startedAt"]
        self.terminated = {
            "exitCode": code,
            "reason": reason,
            "startedAt": began,
            "finishedAt": moment,
            "containerID": self.container_id,
        } | ({"message": message} if message else {})
        self.waiting = self.running = None
        self.started = self.passes = False

    @property
    def ready(self) -> bool:
        if self.role == "init":
            return self.terminated is not None and self.terminated["exitCode"] == 0
        return self.running is not None and self.passes

    @property
    def initialized(self) -> bool:
        """Whether the containers after this one may start."""
        return self.ready if self.role == "init" else self.running is not None and self.started

    def to_json(self) -> Json:
        """As it appears in the pod's status."""
        kind = "waiting" if self.waiting else "running" if self.running else "terminated"
        return {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": f"process://{self.spec['image']}",
            "containerID": self.container_id,
            "state": {kind: getattr(self, kind)},
            "lastState": {"terminated": self.last_terminated} if self.last_terminated else {},
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
        }


def phase(states: Sequence[ContainerState], restart_policy: str, over: bool) -> str:
    """The pod's phase. `over` says that nothing in it will run again, whatever its restart policy."""
    initial = [each for each in states if each.role == "init"]
    failed = [each for each in initial if _exit_code(each)]
    if failed and (restart_policy == "Never" or over):
        return "Failed"
    mains = [each for each in states if each.role == "main"]
    sidecars = [each for each in states if each.role == "sidecar"]
    ended = [each for each in mains if _exit_code(each) is not None and not each.running]
    if over or (
        len(ended) == len(mains) and restart_policy != "Always" and not any(s.running for s in sidecars)
    ):
        codes = [_exit_code(each) for each in mains]
        if all(code == 0 for code in codes):
            return "Succeeded"
        if restart_policy == "Never" or over:
            return "Failed"
    if any(each.terminated is None for each in initial):
        return "Pending"
    if any(each.waiting and not each.last_terminated for each in mains):
        return "Pending"
    return "Running"


def _exit_code(state: ContainerState) -> int | None:
    ended = state.terminated or (state.last_terminated if state.waiting else None)
    return None if ended is None else int(ended["exitCode"])


def pod_status(
    pod: Json, previous: Json, states: Sequence[ContainerState], start_time: str, over: bool
) -> Json:
    """The whole status that the node owns. `previous` gives the times since when conditions hold."""
    current = phase(states, pod["spec"].get("restartPolicy", "Always"), over)
    terminal = current in {"Succeeded", "Failed"}
    unready = [each.spec["name"] for each in states if each.role != "init" and not each.ready]
    uninitialized = [each.spec["name"] for each in states if each.role != "main" and not each.initialized]
    completed = "PodCompleted" if current == "Succeeded" else "PodFailed" if current == "Failed" else ""
    why_unready = (
        completed or "ContainersNotReady",
        f"containers with unready status: [{' '.join(unready)}]",
    )
    why_uninitialized = ("ContainersNotInitialized", f"containers with incomplete status: {uninitialized}")
    begun = terminal or any(each.role == "main" and not each.waiting for each in states)
    ready = not terminal and not unready
    conditions = [
        _condition("PodReadyToStartContainers", not terminal, ("", "")),
        _condition("Initialized", begun or not uninitialized, why_uninitialized),
        _condition("ContainersReady", ready, why_unready),
        _condition("Ready", ready, why_unready),
    ]
    known = {row["type"]: row for row in previous.get("conditions", ())}
    for row in conditions:
        old = known.get(row["type"], {})
        changed = old.get("status") != row["status"]
        row["lastTransitionTime"] = now() if changed else old["lastTransitionTime"]
    return {
        "phase": current,
        "conditions": conditions,
        "startTime": start_time,
        "hostIP": ADDRESS,
        "hostIPs": [{"ip": ADDRESS}],
        "podIP": address_of(pod),
        "podIPs": [{"ip": address_of(pod)}],
        "initContainerStatuses": [each.to_json() for each in states if each.role != "main"],
        "containerStatuses": [each.to_json() for each in states if each.role == "main"],
    }


def _condition(kind: str, holds: bool, otherwise: tuple[str, str]) -> Json:
    row: Json = {"type": kind, "status": "True" if holds else "False"}
    if not holds and otherwise[0]:
        row |= {"reason": otherwise[0], "message": otherwise[1]}
    return row

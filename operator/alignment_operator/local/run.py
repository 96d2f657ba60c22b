"""One iteration without a cluster: apply the manifests to a folder, reconcile until there is an outcome."""

from __future__ import annotations

import asyncio
import secrets as random_tokens
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from pydantic import ValidationError

from alignment_api import names
from alignment_api.conditions import ConditionType, find
from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.dataset import PreferenceDatasetStatus
from alignment_api.stage import STORE_FULL, Stage
from alignment_api.validation import Problem
from alignment_operator.api import CYCLE, DATASET, ConflictError, Kind, Manifest
from alignment_operator.local.admission import InvalidObjectError
from alignment_operator.local.claims import Claims
from alignment_operator.local.directory import Directory
from alignment_operator.local.edits import unseen
from alignment_operator.local.files import run_lock
from alignment_operator.local.jobs import Node, StageProgress
from alignment_operator.local.secrets import Secrets
from alignment_operator.local.worker import WarmWorker
from alignment_operator.observed import Settings
from alignment_operator.reconcile import one_pass

SETTINGS = Settings(worker_image="local", wait_for_inputs=False, heed_triggers=False)
_TICK_SECONDS = 0.25  # how often progress, and verbs given meanwhile, are looked at
_MOST_CONFLICTS = 20
_RUN = names.verb_annotation("run")


class StuckError(Exception):
    """Nothing runs, nothing is due, and there is no outcome."""


class InterruptedRunError(Exception):
    """SIGINT, SIGTERM or SIGHUP: the same command goes on later."""


@dataclass(frozen=True)
class Snapshot:
    """What there is to see: the object that is worked on, and how far its running stage is.

    `edited`: fields of spec that were changed since the iteration began, and apply from the next.
    """

    kind: Kind
    manifest: Manifest
    progress: StageProgress | None = None
    edited: tuple[str, ...] = ()


Watch = Callable[[Snapshot], None]
Done = Callable[[Manifest], bool]


async def run(
    cycle: Manifest | None,
    datasets: Sequence[Manifest],
    claims: Claims,
    secrets: Secrets,
    state: Path,
    watch: Watch,
) -> list[Snapshot]:
    """Ingest the datasets, then run one iteration of the cycle, or go on with the unfinished one.

    Returns the objects as they are in the end, the cycle last: with an outcome, held for a person, suspended, or
    stalled. A dataset that is not Ready ends it. Raises BusyError, InvalidObjectError, InterruptedRunError, StuckError,
    WorkerError, CorruptFileError, OSError.
    """
    with run_lock(state):
        worker = WarmWorker(state / "worker.log", () if cycle else (Stage.INGEST,))
        try:
            with interruptible(worker.kill):
                return await _Runner(Directory(state), worker, claims, secrets, watch).run(cycle, datasets)
        except asyncio.CancelledError:
            raise InterruptedRunError from None
        finally:
            await worker.close()


async def decide(state: Path, cycle: Manifest, now: datetime) -> Manifest:
    """One pass without Jobs: what a person decided takes effect, as far as it needs none. Raises BusyError."""
    metadata = cycle["metadata"]
    api = Directory(state)
    with run_lock(state):
        await one_pass(api, CYCLE, metadata["namespace"], metadata["name"], now, SETTINGS)
    return await api.get(CYCLE, metadata["namespace"], metadata["name"]) or cycle


def is_ready(dataset: Manifest) -> bool:
    """Whether its newest refresh succeeded."""
    condition = find(dataset_status(dataset).conditions, ConditionType.READY)
    return condition is not None and condition.status == "True"


def is_suspended(cycle: Manifest) -> bool:
    """Whether its spec lets nothing start."""
    return _holds(cycle_status(cycle), ConditionType.SUSPENDED)


def is_held(cycle: Manifest) -> bool:
    """Whether its iteration waits for a person."""
    return _holds(cycle_status(cycle), ConditionType.WAITING_FOR_APPROVAL)


def is_unfinished(cycle: Manifest) -> bool:
    """Whether the next run goes on with its iteration."""
    iteration = cycle_status(cycle).iteration
    return iteration is not None and iteration.outcome is None


def is_running(status: PreferenceDatasetStatus) -> bool:
    """Whether the next run goes on with its refresh."""
    return status.ingest is not None and status.ingest.state in ("Pending", "Running")


def cycle_status(cycle: Manifest) -> AlignmentCycleStatus:
    """Empty if it cannot be read: the next pass says why, and ends the run."""
    try:
        return AlignmentCycleStatus.of(cycle.get("status"))
    except ValidationError:
        return AlignmentCycleStatus()


def dataset_status(dataset: Manifest) -> PreferenceDatasetStatus:
    """The same of a dataset."""
    try:
        return PreferenceDatasetStatus.from_wire(dataset.get("status") or {})
    except ValidationError:
        return PreferenceDatasetStatus()


class _Runner:
    def __init__(
        self, api: Directory, worker: WarmWorker, claims: Claims, secrets: Secrets, watch: Watch
    ) -> None:
        self._api = api
        self._worker = worker
        self._claims = claims
        self._secrets = secrets
        self._watch = watch
        self._edited: tuple[str, ...] = ()

    async def run(self, cycle: Manifest | None, datasets: Sequence[Manifest]) -> list[Snapshot]:
        put = [self._api.put(DATASET, _without_run(dataset)) for dataset in datasets]
        live = self._api.put(CYCLE, _without_run(cycle)) if cycle else None
        going_on = live is not None and is_unfinished(live)
        ended: list[Snapshot] = []
        suspended = live is not None and bool(live["spec"]["suspend"])
        if not going_on and not suspended:
            wanted = [*put, *(await self._named(live, put) if live else [])]
            ended = [Snapshot(DATASET, await self._refreshed(dataset)) for dataset in wanted]
        if live is not None and all(is_ready(snapshot.manifest) for snapshot in ended):
            iteration = cycle_status(live).iteration
            if iteration is not None and going_on:
                self._edited = await unseen(self._api, live, iteration)
            ended.append(Snapshot(CYCLE, await self._iterated(live), edited=self._edited))
        return ended

    async def _named(self, cycle: Manifest, given: Sequence[Manifest]) -> list[Manifest]:
        """The datasets that the cycle names and that are here from an earlier run."""
        known = {dataset["metadata"]["name"] for dataset in given}
        found = []
        for index, reference in enumerate(cycle["spec"].get("datasets", [])):
            name = reference["name"]
            dataset = await self._api.get(DATASET, cycle["metadata"]["namespace"], name)
            if dataset is None:
                message = "there is no PreferenceDataset of that name; give its manifest too: -f FILE"
                raise InvalidObjectError((Problem(f"spec.datasets[{index}].name", name, message),))
            if name not in known:
                found.append(dataset)
        return found

    async def _refreshed(self, dataset: Manifest) -> Manifest:
        generation = dataset["metadata"]["generation"]
        before = dataset_status(dataset)
        going_on = before.ingest_generation == generation and is_running(before)
        asked = dataset if going_on else self._asked(DATASET, dataset)
        request = asked["metadata"].get("annotations", {}).get(_RUN)

        def done(manifest: Manifest) -> bool:
            status = dataset_status(manifest)
            current = status.handled.get("run") == request and status.ingest_generation == generation
            ended = current and not is_running(status) and not _collecting(status)
            return ended or _holds(status, ConditionType.STALLED)

        return await self._settled(DATASET, asked, done)

    async def _iterated(self, cycle: Manifest) -> Manifest:
        asked = cycle if is_unfinished(cycle) or cycle["spec"]["suspend"] else self._asked(CYCLE, cycle)
        before = None if is_unfinished(cycle) else _iteration_number(cycle)

        def done(manifest: Manifest) -> bool:
            status = cycle_status(manifest)
            ends = (ConditionType.WAITING_FOR_APPROVAL, ConditionType.STALLED, ConditionType.SUSPENDED)
            if any(_holds(status, type_) for type_ in ends):
                return True
            iteration, collection = status.iteration, status.collection
            if collection is not None and collection.stage.state in {"Pending", "Running"}:
                return False
            return iteration is not None and iteration.number != before and iteration.outcome is not None

        return await self._settled(CYCLE, asked, done)

    def _asked(self, kind: Kind, manifest: Manifest) -> Manifest:
        metadata = manifest["metadata"]
        request = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}-{random_tokens.token_hex(2)}"
        return self._api.annotate(kind, metadata["namespace"], metadata["name"], {_RUN: request})

    async def _settled(self, kind: Kind, manifest: Manifest, done: Done) -> Manifest:
        """Pass after pass until one that changes nothing finds it done."""
        metadata = manifest["metadata"]
        owner = metadata["namespace"], metadata["uid"]
        node = Node(self._api, *owner, self._worker, self._claims, self._secrets)
        await node.recover()
        await node.sync()  # the pod of a Job that was left active, before anybody asks why it has none
        full_before = _store_full(manifest)
        try:
            while True:
                live, wake_at = await self._pass(kind, metadata["namespace"], metadata["name"])
                await node.sync()
                self._watch(Snapshot(kind, live, node.progress(), self._edited))
                if wake_at is None and done(live):
                    return live
                full = _store_full(live)
                if full and full != full_before:
                    raise StuckError(f"{full[1]} The same command then goes on where it stopped.")
                await self._wait(kind, live, node, wake_at)
        finally:
            await node.stop()

    async def _pass(self, kind: Kind, namespace: str, name: str) -> tuple[Manifest, datetime | None]:
        for attempt in count(1):
            try:
                done = await one_pass(self._api, kind, namespace, name, datetime.now(UTC), SETTINGS)
                break
            except ConflictError as error:  # a verb was written meanwhile: observe again
                if attempt == _MOST_CONFLICTS:
                    raise StuckError(f"{kind.kind} {name}: {error}") from error
        live = await self._api.get(kind, namespace, name)
        if live is None:
            raise StuckError(f"{kind.kind} {name} was deleted from {self._api.state} while it ran")
        return live, done.wake_at

    async def _wait(self, kind: Kind, seen: Manifest, node: Node, wake_at: datetime | None) -> None:
        """Until a Job changed, the object was changed by somebody else, or the time has come."""
        metadata = seen["metadata"]
        if node.idle and wake_at is None:
            raise StuckError(_why_stuck(seen))
        while not node.changed.is_set():
            left = (wake_at - datetime.now(UTC)).total_seconds() if wake_at else _TICK_SECONDS
            if left <= 0:
                return
            try:
                await asyncio.wait_for(node.changed.wait(), min(left, _TICK_SECONDS))
            except TimeoutError:
                self._watch(Snapshot(kind, seen, node.progress(), self._edited))
                live = await self._api.get(kind, metadata["namespace"], metadata["name"])
                if live is None or live["metadata"]["resourceVersion"] != metadata["resourceVersion"]:
                    return
        node.changed.clear()


@contextmanager
def interruptible(kill: Callable[[], None]) -> Iterator[None]:
    """The first signal ends the run in order; a second one does not wait for the stage to end."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    received: list[int] = []

    def on_signal(number: int) -> None:
        received.append(number)
        if len(received) == 1:
            task.cancel()
        else:
            kill()

    for number in signals:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _without_run(manifest: Manifest) -> Manifest:
    """Here the command is the request; a `run` annotation kept in a file would ask again after the outcome."""
    metadata = manifest["metadata"]
    kept = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != _RUN}
    return {**manifest, "metadata": {**metadata, "annotations": kept}}


def _collecting(status: PreferenceDatasetStatus) -> bool:
    return status.collection is not None and status.collection.stage.state in ("Pending", "Running")


def _holds(status: AlignmentCycleStatus | PreferenceDatasetStatus, type_: ConditionType) -> bool:
    condition = find(status.conditions, type_)
    return condition is not None and condition.status == "True"


def _iteration_number(cycle: Manifest) -> int | None:
    iteration = cycle_status(cycle).iteration
    return iteration.number if iteration else None


def _store_full(manifest: Manifest) -> tuple[int, str] | None:
    """The attempt after which a stage waits for room in the store, and what it says; here nobody waits."""
    status = manifest.get("status", {})
    stages = [*status.get("iteration", {}).get("stages", []), status.get("ingest", {})]
    for stage in stages:
        if stage.get("state") == "Pending" and stage.get("reason") == STORE_FULL:
            return stage["attempt"], stage.get("message", "")
    return None


def _why_stuck(manifest: Manifest) -> str:
    conditions = manifest.get("status", {}).get("conditions", [])
    ready = next((item for item in conditions if item["type"] == ConditionType.READY), None)
    said = f"{ready['reason']}: {ready['message']}" if ready else "it has no status"
    return f"{manifest['kind']} {manifest['metadata']['name']}: nothing is left to do and nothing was decided ({said})"

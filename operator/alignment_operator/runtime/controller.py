"""Turns what was heard into keys, and keys into passes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, NoReturn

import aiohttp

from alignment_api import names
from alignment_operator.api import (
    CYCLE,
    DATASET,
    Api,
    ConflictError,
    Kind,
    Manifest,
    NotFoundError,
    RefusedError,
)
from alignment_operator.cluster import ServerError
from alignment_operator.observe import JobSource, Known, UnreadableError
from alignment_operator.observe.cycle import seems_to_run
from alignment_operator.observe.jobs import is_starting, without_ttl
from alignment_operator.observe.known import Recent, Revisions
from alignment_operator.observed import Settings
from alignment_operator.reconcile import Pass, one_pass
from alignment_operator.runtime.metrics import Metrics
from alignment_operator.runtime.turns import Turns
from alignment_operator.runtime.work_queue import WorkQueue

log = logging.getLogger(__name__)

# Their message says all; a traceback would only hide it.
_EXPECTED = (
    RefusedError,
    NotFoundError,
    ServerError,
    aiohttp.ClientError,
    TimeoutError,
    UnreadableError,
)
_AT_ONCE_AGAIN_SECONDS = 1.0
_LEISURE_SECONDS = 3.0
_RECENT = 256  # running iterations of which is kept what is read in every pass: some tens of kilobytes each


class Key(NamedTuple):
    """What a pass is about."""

    kind: Kind
    namespace: str
    name: str


class Controller:
    """Nothing that it hears is acted upon: it only says which object to look at again."""

    """`most_active`: iterations that run at once; None: all that are due."""

    def __init__(
        self, api: Api, settings: Settings, jobs: JobSource, metrics: Metrics, most_active: int | None = None
    ) -> None:
        self.queue: WorkQueue[Key] = WorkQueue()
        self._turns: Turns[Key] = Turns(most_active)
        self._api = api
        self._settings = settings
        self._jobs = jobs
        self._metrics = metrics
        self._revisions = Revisions(_RECENT)
        self._latest: Recent[Key, Manifest] = Recent(
            _RECENT
        )  # as written here; nobody was heard to write since
        self._written: dict[Key, str] = {}
        self._versions: dict[Key, str] = {}  # heard last
        self._changed: set[Key] = set()  # heard of during a pass, perhaps because of what it wrote
        self._datasets_of: dict[Key, frozenset[str]] = {}
        self._users_of: dict[tuple[str, str], set[Key]] = {}

    def heard_of_cycle(self, manifest: Manifest, *, deleted: bool) -> None:
        key = _key(CYCLE, manifest)
        if not deleted:
            self._index(key, frozenset(_names(manifest.get("spec", {}).get("datasets") or [])))
            if key not in self._versions:
                self._wake(self._turns.settle(key, runs=seems_to_run(manifest), waits=False))
        self._heard(key, manifest, deleted=deleted)

    def heard_of_dataset(self, manifest: Manifest, *, deleted: bool) -> None:
        """Of its status too: cycles that name it wait for its revision."""
        key = _key(DATASET, manifest)
        self._heard(key, manifest, deleted=deleted)
        for user in self._users_of.get((key.namespace, key.name), ()):
            self.queue.add(user)

    def heard_of_target(self, now: Manifest | None, before: Manifest | None) -> None:
        """As it is and as it was; None if it is not there."""
        for key in _owners(now or before):
            self.queue.add(key)

    def heard_of_progress(self, job: Manifest) -> None:
        """Its workers got further."""
        for key in _owners(job):
            self.queue.add(key)

    def heard_of_job(self, now: Manifest | None, before: Manifest | None) -> None:
        """At leisure as long as its pods do not run: all that a pass could do is to say why. Else before all others.

        That it goes some time after its end is what a pass asked for, and no news.
        """
        if now and before and without_ttl(now) == without_ttl(before):
            return
        for key in _owners(now or before):
            if now and is_starting(now):
                self.queue.add_after(key, _LEISURE_SECONDS)
            else:
                self.queue.add(key, urgent=True)

    async def work(self) -> NoReturn:
        """Pass after pass, until it is cancelled. Several may run side by side."""
        while True:
            key = await self.queue.take()
            latest = self._latest.get(key)
            while True:
                began = time.monotonic()
                try:
                    outcome = await self._pass(key, latest)
                except Exception as error:  # noqa: BLE001 - one object's trouble must not stop the others
                    self._metrics.reconciled(key, time.monotonic() - began, error)
                    self._failed(key, error)
                    break
                self._metrics.reconciled(key, time.monotonic() - began, None)
                self._note(key, outcome)
                if not _goes_on(outcome):
                    self._settle(key, outcome)
                    break
                latest = outcome.latest

    def unheard(self, kind: Kind, there: Mapping[Key, str]) -> set[tuple[Key, str]]:
        """What is not known of the objects that are there, by resourceVersion; each with the version heard last."""
        known = {key: version for key, version in self._versions.items() if key.kind == kind}
        missed = {key for key, version in there.items() if known.get(key) != version}
        return {(key, known.get(key, "")) for key in missed | (known.keys() - there.keys())}

    async def _pass(self, key: Key, latest: Manifest | None) -> Pass:
        now = datetime.now(UTC)
        has_turn = key.kind == CYCLE and self._turns.offer(key)
        known = Known(self._jobs, latest, self._revisions, has_turn)
        return await one_pass(self._api, key.kind, key.namespace, key.name, now, self._settings, known)

    def _failed(self, key: Key, error: Exception) -> None:
        self._latest.drop(key)
        seconds = self.queue.failed(key)
        self._catch_up(key)
        self._wake(self._turns.fail(key))
        if isinstance(error, ConflictError):
            log.debug("%s/%s: %s", key.namespace, key.name, error)
            return
        log.warning(
            "%s %s/%s: %s; again in %.1f s",
            key.kind.kind,
            key.namespace,
            key.name,
            str(error) or type(error).__name__,
            seconds,
            exc_info=None if isinstance(error, _EXPECTED) else error,
        )

    def _note(self, key: Key, outcome: Pass) -> None:
        if outcome.gone:
            self._forget(key)
        if outcome.latest and outcome.written:
            self._written[key] = outcome.written
            if outcome.runs:
                self._latest.keep(key, outcome.latest)
            else:
                self._latest.drop(key)
        if outcome.change:
            self._metrics.written(key, outcome.change, outcome.told)
        if key.kind == CYCLE:
            self._wake(self._turns.settle(key, runs=outcome.runs, waits=outcome.waits_for_turn))

    def _settle(self, key: Key, outcome: Pass) -> None:
        self.queue.done(key)
        if outcome.wake_at is not None:
            # A pass that changed nothing and is due again at once would be due for ever.
            self.queue.add_after(key, max(_seconds_until(outcome.wake_at), _AT_ONCE_AGAIN_SECONDS))
        self._catch_up(key)

    def _catch_up(self, key: Key) -> None:
        """A watch may tell of a status before its writer knows that it is written."""
        if key in self._changed:
            self._changed.remove(key)
            if self._versions.get(key) != self._written.get(key):
                self._latest.drop(key)
                self.queue.add(key)

    def _heard(self, key: Key, manifest: Manifest, *, deleted: bool) -> None:
        if deleted:
            self._forget(key)
        else:
            version = self._versions[key] = manifest["metadata"]["resourceVersion"]
            self._metrics.heard(key.kind, manifest)
            if version == self._written.get(key):
                return  # it is what this operator wrote last, and nobody wrote since
            self._latest.drop(key)
            if self.queue.is_working_on(key):
                self._changed.add(key)
                return
        self.queue.add(key)

    def _wake(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.queue.add(key)

    def _forget(self, key: Key) -> None:
        self._latest.drop(key)
        self._wake(self._turns.settle(key, runs=False, waits=False))
        self._index(key, frozenset())
        self._written.pop(key, None)
        self._versions.pop(key, None)
        self._metrics.forget(key)

    def _index(self, key: Key, datasets: frozenset[str]) -> None:
        before = self._datasets_of.pop(key, frozenset())
        for name in before - datasets:
            users = self._users_of[key.namespace, name]
            users.discard(key)
            if not users:
                del self._users_of[key.namespace, name]
        for name in datasets:
            self._users_of.setdefault((key.namespace, name), set()).add(key)
        if datasets:
            self._datasets_of[key] = datasets


def _goes_on(outcome: Pass) -> bool:
    """Whether what it wrote is to be acted on at once."""
    return outcome.latest is not None and outcome.wake_at is not None and _seconds_until(outcome.wake_at) <= 0


def _seconds_until(instant: datetime) -> float:
    return (instant - datetime.now(UTC)).total_seconds()


def _owners(owned: Manifest | None) -> Iterable[Key]:
    """Those that its labels name."""
    assert owned is not None
    metadata = owned["metadata"]
    labels = metadata.get("labels", {})
    for label, kind in ((names.LABEL_CYCLE, CYCLE), (names.LABEL_DATASET, DATASET)):
        if label in labels:
            yield Key(kind, metadata["namespace"], labels[label])


def _key(kind: Kind, manifest: Manifest) -> Key:
    return Key(kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _names(datasets: Iterable[object]) -> Iterable[str]:
    return (str(dataset["name"]) for dataset in datasets if isinstance(dataset, dict) and "name" in dataset)

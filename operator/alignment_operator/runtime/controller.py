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
from alignment_operator.observe import JobSource, UnreadableError
from alignment_operator.observed import Settings
from alignment_operator.reconcile import Pass, one_pass
from alignment_operator.runtime.metrics import Metrics
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


class Key(NamedTuple):
    """What a pass is about."""

    kind: Kind
    namespace: str
    name: str


class Controller:
    """Nothing that it hears is acted upon: it only says which object to look at again."""

    def __init__(self, api: Api, settings: Settings, jobs: JobSource, metrics: Metrics) -> None:
        self.queue: WorkQueue[Key] = WorkQueue()
        self._api = api
        self._settings = settings
        self._jobs = jobs
        self._metrics = metrics
        self._written: dict[Key, str] = {}
        self._versions: dict[Key, str] = {}  # heard last
        self._datasets_of: dict[Key, frozenset[str]] = {}
        self._users_of: dict[tuple[str, str], set[Key]] = {}

    def heard_of_cycle(self, manifest: Manifest, *, deleted: bool) -> None:
        key = _key(CYCLE, manifest)
        if not deleted:
            self._index(key, frozenset(_names(manifest.get("spec", {}).get("datasets") or [])))
        self._heard(key, manifest, deleted=deleted)

    def heard_of_dataset(self, manifest: Manifest, *, deleted: bool) -> None:
        """Of its status too: cycles that name it wait for its revision."""
        key = _key(DATASET, manifest)
        self._heard(key, manifest, deleted=deleted)
        for user in self._users_of.get((key.namespace, key.name), ()):
            self.queue.add(user)

    def heard_of_owned(self, manifest: Manifest) -> None:
        """A Job or a target: the object that its labels name is looked at."""
        metadata = manifest["metadata"]
        labels = metadata.get("labels", {})
        for label, kind in ((names.LABEL_CYCLE, CYCLE), (names.LABEL_DATASET, DATASET)):
            if label in labels:
                self.queue.add(Key(kind, metadata["namespace"], labels[label]))

    async def work(self) -> NoReturn:
        """Pass after pass, until it is cancelled. Several may run side by side."""
        while True:
            key = await self.queue.take()
            began = time.monotonic()
            try:
                outcome = await self._pass(key)
            except Exception as error:  # noqa: BLE001 - one object's trouble must not stop the others
                self._metrics.reconciled(key, time.monotonic() - began, error)
                self._failed(key, error)
            else:
                self._metrics.reconciled(key, time.monotonic() - began, None)
                self._settle(key, outcome)

    def unheard(self, kind: Kind, there: Mapping[Key, str]) -> set[tuple[Key, str]]:
        """What is not known of the objects that are there, by resourceVersion; each with the version heard last."""
        known = {key: version for key, version in self._versions.items() if key.kind == kind}
        missed = {key for key, version in there.items() if known.get(key) != version}
        return {(key, known.get(key, "")) for key in missed | (known.keys() - there.keys())}

    async def _pass(self, key: Key) -> Pass:
        now = datetime.now(UTC)
        return await one_pass(self._api, key.kind, key.namespace, key.name, now, self._settings, self._jobs)

    def _failed(self, key: Key, error: Exception) -> None:
        seconds = self.queue.failed(key)
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

    def _settle(self, key: Key, outcome: Pass) -> None:
        if outcome.gone:
            self._forget(key)
        if outcome.written:
            self._written[key] = outcome.written
        if outcome.change:
            self._metrics.written(key, outcome.change, outcome.told)
        self.queue.done(key)
        if outcome.wake_at is not None:
            seconds = (outcome.wake_at - datetime.now(UTC)).total_seconds()
            # A pass that changed nothing and is due again at once would be due for ever.
            self.queue.add_after(key, seconds if outcome.written else max(seconds, _AT_ONCE_AGAIN_SECONDS))

    def _heard(self, key: Key, manifest: Manifest, *, deleted: bool) -> None:
        if deleted:
            self._forget(key)
        else:
            version = self._versions[key] = manifest["metadata"]["resourceVersion"]
            self._metrics.heard(key.kind, manifest)
            if version == self._written.get(key):
                return  # it is what this operator wrote last, and nobody wrote since
        self.queue.add(key)

    def _forget(self, key: Key) -> None:
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


def _key(kind: Kind, manifest: Manifest) -> Key:
    return Key(kind, manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _names(datasets: Iterable[object]) -> Iterable[str]:
    return (str(dataset["name"]) for dataset in datasets if isinstance(dataset, dict) and "name" in dataset)

"""kopf's part: it watches our two kinds, logs in and shuts down in order.

Handlers only wake keys. kopf writes nothing: no annotation, no finalizer, no event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

import kopf

from alignment_api import names
from alignment_api.model import API_VERSION, GROUP, VERSION
from alignment_operator.api import CONFIG_MAP, CYCLE, DATASET, JOB, Kind, Manifest
from alignment_operator.cluster import (
    CONNECT_SECONDS,
    PAGE,
    REQUEST_SECONDS,
    SILENCE_SECONDS,
    WATCH_SECONDS,
    Cluster,
    connect,
    login,
)
from alignment_operator.observe.jobs import is_computing
from alignment_operator.observe.jobs import slim as slim_job
from alignment_operator.observed import Settings
from alignment_operator.runtime.audit import Audit
from alignment_operator.runtime.controller import Controller
from alignment_operator.runtime.hearing import Hearing
from alignment_operator.runtime.metrics import Live, Metrics
from alignment_operator.runtime.probes import Probes
from alignment_operator.runtime.progress import ProgressReader
from alignment_operator.runtime.reflector import Reflector, Selection
from alignment_operator.runtime.web import served

log = logging.getLogger(__name__)

WORKERS = 8
_CRD_SECONDS = 5.0
_EXIT_SECONDS = 20.0
_TASK_IDLE_SECONDS = 0.1


@dataclass(frozen=True)
class Options:
    """How it is run. No namespaces: all of them."""

    settings: Settings
    namespaces: Sequence[str] = ()
    health_port: int | None = None
    metrics_port: int | None = None
    max_active_iterations: int | None = None
    silence_seconds: float = SILENCE_SECONDS  # a watch that is silent for longer is begun anew
    audit_seconds: float = 300.0  # how often what was heard is compared with what there is


async def run(options: Options) -> None:
    """Until SIGTERM or SIGINT. Raises NoClusterError, and what a background task died of."""
    asyncio.get_running_loop().set_exception_handler(tell)
    async with connect(options.silence_seconds) as cluster:
        await _Operator(cluster, options).run()


def tell(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What no task has caught, as asyncio logs it; but not what generators say that the loop closes at its end.

    kopf's watch, if it is stopped while it hands an event on, objects to being closed: a traceback that means nothing.
    """
    if "asyncgen" in context:
        log.debug("%s", context["message"])
    else:
        loop.default_exception_handler(context)


async def _until_served(cluster: Cluster) -> None:
    """A watch of a kind that the server does not know would never begin."""
    wanted = {names.CYCLE_PLURAL, names.DATASET_PLURAL}
    while missing := wanted - await cluster.plurals(API_VERSION):
        log.warning("the cluster does not know %s: `kubectl apply -f crds/`", ", ".join(sorted(missing)))
        await asyncio.sleep(_CRD_SECONDS)


class _Operator:
    def __init__(self, cluster: Cluster, options: Options) -> None:
        self._cluster = cluster
        self._options = options
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._failure: BaseException | None = None
        self._metrics = Metrics(version("alignment-operator"), self._live)
        self._controller = Controller(
            cluster, options.settings, self._jobs, self._metrics, options.max_active_iterations
        )
        namespaces = options.namespaces or [""]
        self._computing: dict[str, Manifest] = {}  # Jobs whose workers run, by UID
        self._job_reflectors = {
            namespace: Reflector(
                cluster,
                Selection(JOB, namespace, names.LABEL_OWNER_UID),
                slim=slim_job,
                group=lambda job: job["metadata"]["labels"][names.LABEL_OWNER_UID],
                changed=self._heard_of_job,
            )
            for namespace in namespaces
        }
        target_reflectors = [
            Reflector(
                cluster,
                Selection(CONFIG_MAP, namespace, names.LABEL_CYCLE),
                slim=_slim_target,
                group=lambda target: target["metadata"]["labels"][names.LABEL_CYCLE],
                changed=self._controller.heard_of_target,
            )
            for namespace in namespaces
        ]
        self._reflectors = [*self._job_reflectors.values(), *target_reflectors]
        self._progress = ProgressReader(cluster, self._computing.values, self._controller.heard_of_progress)
        self._audits = {kind: Audit(cluster, self._controller, kind, namespaces) for kind in (CYCLE, DATASET)}

    async def run(self) -> None:
        probes = Probes(self._hearings, self._controller.queue, self._unsynced)
        health = {"/healthz": probes.healthz, "/readyz": probes.readyz}
        async with (
            served(self._options.health_port, health),
            served(self._options.metrics_port, {"/metrics": self._metrics.serve}),
        ):
            await _until_served(self._cluster)
            await kopf.operator(
                registry=self._registry(),
                settings=_kopf_settings(self._options.silence_seconds),
                standalone=True,
                # Without one, kopf asks for the user's name, and the user of a pod has none.
                identity=cast("Any", names.FIELD_MANAGER),
                clusterwide=not self._options.namespaces,
                namespaces=list(self._options.namespaces),
                stop_flag=self._stop,
            )
        if self._failure is not None:
            raise self._failure

    def _jobs(self, namespace: str, owner_uid: str) -> list[Manifest]:
        reflector = self._job_reflectors.get(namespace) or self._job_reflectors[""]
        jobs = reflector.grouped(owner_uid)
        return [{**job, "progress": self._progress.of(job["metadata"]["uid"])} for job in jobs]

    def _heard_of_job(self, now: Manifest | None, before: Manifest | None) -> None:
        if now is not None and is_computing(now):
            self._computing[now["metadata"]["uid"]] = now
        elif before is not None:
            self._computing.pop(before["metadata"]["uid"], None)
        self._controller.heard_of_job(now, before)

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(_connection)
        kopf.on.startup(registry=registry)(self._start)
        kopf.on.cleanup(registry=registry)(self._end)
        kopf.on.event(GROUP, VERSION, names.CYCLE_PLURAL, registry=registry)(self._cycle_event)
        kopf.on.event(GROUP, VERSION, names.DATASET_PLURAL, registry=registry)(self._dataset_event)
        return registry

    async def _start(self, **_: Any) -> None:
        for reflector in self._reflectors:
            self._spawn(reflector.run(), reflector.selection.kind.plural)
        for audit in self._audits.values():
            self._spawn(audit.run(self._options.audit_seconds), f"audit of {audit.kind.plural}")
        self._spawn(self._progress.run(), "progress")
        for number in range(WORKERS):
            self._spawn(self._work(), f"worker {number}")

    async def _work(self) -> None:
        """Once all is known that passes rely on: Jobs, and how many iterations run."""
        for _, synced in self._synced():
            await synced.wait()
        await self._controller.work()

    def _hearings(self) -> list[tuple[str, Hearing]]:
        """What is followed, by the name of its resource; one for each namespace that is served."""
        reflected = [(each.selection.kind.plural, each.hearing) for each in self._reflectors]
        return [*reflected, *((audit.kind.plural, audit.hearing) for audit in self._audits.values())]

    def _unsynced(self) -> list[str]:
        return sorted({kind.plural for kind, synced in self._synced() if not synced.is_set()})

    def _synced(self) -> list[tuple[Kind, asyncio.Event]]:
        reflected = [(each.selection.kind, each.synced) for each in self._reflectors]
        return [*reflected, *((audit.kind, audit.synced) for audit in self._audits.values())]

    def _live(self) -> Live:
        heard: dict[str, float] = {}
        for name, hearing in self._hearings():
            heard[name] = min(heard.get(name, hearing.heard_at), hearing.heard_at)
        queue = self._controller.queue
        return Live(len(queue), queue.oldest_seconds(), heard)

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """None of them ends by itself: half an operator is worse than one that is started again."""
        if not task.cancelled():
            self._failure = task.exception() or RuntimeError(f"{task.get_name()} ended")
            self._stop.set()

    async def _end(self, **_: Any) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cycle_event(self, event: kopf.RawEvent, **_: Any) -> None:
        self._audits[CYCLE].hearing.heard()
        self._controller.heard_of_cycle(dict(event["object"]), deleted=event["type"] == "DELETED")

    async def _dataset_event(self, event: kopf.RawEvent, **_: Any) -> None:
        self._audits[DATASET].hearing.heard()
        self._controller.heard_of_dataset(dict(event["object"]), deleted=event["type"] == "DELETED")


def _slim_target(target: Manifest) -> Manifest:
    """Enough to tell that it changed; the pass reads the rest."""
    metadata = target["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion")
    labels = {names.LABEL_CYCLE: metadata["labels"][names.LABEL_CYCLE]}
    return {"metadata": {**{key: metadata[key] for key in kept}, "labels": labels}}


async def _connection(**_: Any) -> kopf.ConnectionInfo:
    """The same login as everything else here has; asked for again when the server stops knowing the token."""
    configuration = await login()
    key = await configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        token=key.split(" ", 1)[-1] if key else None,
        proxy_url=configuration.proxy,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )


def _kopf_settings(silence_seconds: float) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.process.ultimate_exiting_timeout = _EXIT_SECONDS
    # Who is silent for so long may be dead: the watch is begun anew, from the last version heard.
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.inactivity_timeout = silence_seconds
    settings.watching.chunk_size = PAGE
    # A task for each object that was heard of lives so long, and the object with it.
    settings.queueing.idle_timeout = _TASK_IDLE_SECONDS
    settings.networking.connect_timeout = CONNECT_SECONDS
    settings.networking.request_timeout = REQUEST_SECONDS
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    return settings


class _NoDiffBase(kopf.DiffBaseStorage):
    """kopf copies and compares every object it hears of, to find what changed. We look at everything anyway."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """No handler of ours is retried by kopf, so there is no progress to keep in annotations."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence

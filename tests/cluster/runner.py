"""One container of a pod over all its runs: configured, started, probed, ended, started again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster import containers
from tests.cluster.api import Api, ApiError, Json, Unreachable
from tests.cluster.containers import ContainerProcess, ContainerSpec, StartError
from tests.cluster.environment import ConfigError, References, environment, expand, quantity
from tests.cluster.hosts import hosts_file
from tests.cluster.images import Image, find_image
from tests.cluster.memory import until_over
from tests.cluster.probes import run_hook, watch_probes
from tests.cluster.status import ContainerState, Role, address_of
from tests.cluster.volumes import NotMountableError, Volume, mounts

log = logging.getLogger(__name__)

KILLED = 137
_MAX_BACKOFF_SECONDS = 300.0
_CONFIGURE_SECONDS = 2.0


@dataclass(frozen=True)
class Host:
    """What all pods of a node share. `open_paths`: what containers that are not root must reach, too."""

    api: Api
    folder: Path
    images: Sequence[Image]
    allocatable: Mapping[str, str]
    open_paths: Sequence[str]
    crash_backoff_seconds: float


@dataclass
class PodContext:
    """What the containers of a pod share. `pod` is its latest version."""

    host: Host
    pod: Json
    folder: Path
    logs: Path
    changed: Callable[[], None]
    volumes: dict[str, Volume] = field(default_factory=dict)


class ContainerRunner:
    """Runs a container as often as its restart policy asks for. Its `state` is always true."""

    def __init__(self, context: PodContext, spec: Json, role: Role) -> None:
        waiting = {
            "reason": "PodInitializing" if context.pod["spec"].get("initContainers") else "ContainerCreating"
        }
        self.state = ContainerState(spec, role, waiting)
        self.name: str = spec["name"]
        self._context = context
        self._process: ContainerProcess | None = None
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self._started = asyncio.Event()
        self._fate = ""

    def begin(self) -> asyncio.Task[None]:
        """Start it; the task ends when it will not run again."""
        self._task = asyncio.create_task(self._supervise(), name=f"{self._context.folder.name}/{self.name}")
        return self._task

    async def until_started(self) -> None:
        """Return when it runs and its startup probe passed, or when it will never run again."""
        assert self._task is not None
        started = asyncio.create_task(self._started.wait())
        try:
            await asyncio.wait({started, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()

    async def stop(self, grace_seconds: float) -> None:
        """End it for good: hook, SIGTERM, and SIGKILL after the grace. Returns when it has ended."""
        self._ending.set()
        if self._task is None or self._task.done():
            return
        deadline = asyncio.get_running_loop().time() + grace_seconds
        if self._process is not None:
            if hook := self.state.spec.get("lifecycle", {}).get("preStop"):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await run_hook(hook, self.state.spec, self._process)
            self._process.terminate()
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        await asyncio.wait({self._task}, timeout=left)
        while not self._task.done():
            self._kill()
            await asyncio.wait({self._task}, timeout=1)

    def kill_out_of_memory(self) -> None:
        """What the kernel does to it when its memory is used up."""
        self._fate = "OOMKilled"
        self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    async def _supervise(self) -> None:
        crashes = 0
        while not self._ending.is_set():
            spec = await self._configured()
            if spec is None:
                return
            await self._run(spec)
            self._context.changed()
            if self._ending.is_set() or not self._should_restart():
                return
            self.state.wait("CrashLoopBackOff")
            self._context.changed()
            # Like the kubelet: at once the first time, then twice as late each time.
            base = self._context.host.crash_backoff_seconds
            await self._pause(min(base * 2 ** (crashes - 1), _MAX_BACKOFF_SECONDS) if crashes else 0)
            crashes += 1
            self.state.restarts += 1

    def _should_restart(self) -> bool:
        assert self.state.terminated is not None
        if self.state.role == "sidecar":
            return True
        policy = self._context.pod["spec"].get("restartPolicy", "Always")
        failed = bool(self.state.terminated["exitCode"])
        if self.state.role == "init":
            return failed and policy != "Never"
        return bool(policy == "Always" or (policy == "OnFailure" and failed))

    async def _run(self, spec: ContainerSpec) -> None:
        folder = self._folder()
        self._fate = ""
        try:
            self._process = await containers.start(spec, folder, address_of(self._context.pod))
        except (StartError, OSError) as error:
            self.state.end(128, "StartError", str(error))
            return
        self.state.run(f"process://{self._context.folder.name}/{self.name}/{self.state.restarts}")
        if self._ending.is_set():
            self._process.terminate()
        watchers = [
            asyncio.create_task(self._probe(self._process)),
            asyncio.create_task(self._watch_memory(self._process)),
        ]
        try:
            code = await self._process.wait()
        finally:
            for watcher in watchers:
                watcher.cancel()
            self._process = None
        message = containers.termination_message(self.state.spec, code, folder / "message", Path(spec.log))
        if self._fate == "OOMKilled":
            code = KILLED
        self.state.end(code, self._fate or ("Error" if code else "Completed"), message)

    async def _probe(self, process: ContainerProcess) -> None:
        def changed() -> None:
            if self.state.started:
                self._started.set()
            self._context.changed()

        changed()
        if hook := self.state.spec.get("lifecycle", {}).get("postStart"):
            await run_hook(hook, self.state.spec, process)
        await watch_probes(self.state, process, changed)
        log.info("%s is killed: it does not answer its probe", self.name)
        process.terminate()
        await asyncio.sleep(self._context.pod["spec"].get("terminationGracePeriodSeconds", 30))
        process.kill()

    async def _watch_memory(self, process: ContainerProcess) -> None:
        limit = self.state.spec.get("resources", {}).get("limits", {}).get("memory")
        if limit is not None:
            await until_over(process.pid, quantity(limit))
            self.kill_out_of_memory()

    async def _configured(self) -> ContainerSpec | None:
        """What to run, as soon as all it refers to is there; None if the pod is to end before."""
        pause = 0.1
        while not self._ending.is_set():
            try:
                return await self._configure()
            except ConfigError as error:
                self.state.wait("CreateContainerConfigError", str(error))
            except (NotMountableError, OSError) as error:
                self.state.wait("CreateContainerError", str(error) or repr(error))
            except _NoImageError as error:
                backing_off = self.state.waiting and self.state.waiting["reason"] == "ErrImagePull"
                self.state.wait("ImagePullBackOff" if backing_off else "ErrImagePull", str(error))
            except (ApiError, *Unreachable) as error:
                self.state.wait("CreateContainerConfigError", repr(error))
            self._context.changed()
            await self._pause(pause)
            pause = min(2 * pause, _CONFIGURE_SECONDS)
        return None

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), seconds)

    async def _configure(self) -> ContainerSpec:
        host, pod, spec = self._context.host, self._context.pod, self.state.spec
        image = find_image(spec["image"], host.images)
        if image is None:
            raise _NoImageError(f"the process node knows no image {spec['image']!r}; see docs/test-bed.md")
        security = pod["spec"].get("securityContext", {}) | spec.get("securityContext", {})
        uid = security.get("runAsUser", image.uid)
        if uid == 0 and security.get("runAsNonRoot"):
            raise ConfigError("container has runAsNonRoot and image will run as root")
        env = environment(pod, spec, self._service_environment(), await self._references(), host.allocatable)
        hostname = pod["spec"].get("hostname") or pod["metadata"]["name"]
        home = {"HOME": "/" if uid else "/root"}
        folder = self._folder()
        folder.mkdir(parents=True, exist_ok=True)
        message, names = folder / "message", folder / "hosts"
        message.write_bytes(b"")
        message.chmod(0o666)
        names.write_text(await hosts_file(host.api, pod))
        target = spec.get("terminationMessagePath", "/dev/termination-log")
        command = spec.get("command") or image.entrypoint
        arguments = spec.get("args") or (() if spec.get("command") else image.command)
        groups = [*security.get("supplementalGroups", ())]
        return ContainerSpec(
            argv=[expand(each, env) for each in (*command, *arguments)],
            env=home | image.env | {"HOSTNAME": hostname} | env,
            cwd=spec.get("workingDir") or image.working_dir,
            hostname=hostname,
            log=str(self._context.logs / self.name / f"{self.state.restarts}.log"),
            mounts=[
                *_image_mounts(image),
                *mounts(pod, spec, self._context.volumes, env),
                {"source": str(names), "target": "/etc/hosts", "read_only": False},
                {"source": str(message), "target": target, "read_only": False},
            ],
            scratch=str(folder / "scratch"),
            open_paths=list(host.open_paths),
            read_only_root=security.get("readOnlyRootFilesystem", False),
            uid=uid,
            gid=security.get("runAsGroup", uid),
            groups=[*groups, security["fsGroup"]] if "fsGroup" in security else groups,
            drop_capabilities="ALL" in security.get("capabilities", {}).get("drop", ()),
            no_new_privileges=security.get("allowPrivilegeEscalation") is False,
        )

    def _service_environment(self) -> dict[str, str]:
        address, _, port = self._context.host.api.server.rpartition("/")[2].partition(":")
        ports = dict.fromkeys(("KUBERNETES_SERVICE_PORT", "KUBERNETES_SERVICE_PORT_HTTPS"), port or "443")
        return {"KUBERNETES_SERVICE_HOST": address, **ports}

    async def _references(self) -> References:
        names: dict[str, set[str]] = {"configmaps": set(), "secrets": set()}
        for kind, name in _named(self.state.spec):
            names[kind].add(name)
        namespace = f"/api/v1/namespaces/{self._context.pod['metadata']['namespace']}"
        api = self._context.host.api
        found: dict[str, dict[str, Json]] = {"configmaps": {}, "secrets": {}}
        for kind, wanted in names.items():
            for name in wanted:
                if (item := await api.get(f"{namespace}/{kind}/{name}")) is not None:
                    found[kind][name] = item
        return References(found["configmaps"], found["secrets"])

    def _folder(self) -> Path:
        return self._context.folder / "containers" / f"{self.name}-{self.state.restarts}"


class _NoImageError(Exception):
    pass


def _image_mounts(image: Image) -> list[Json]:
    return [
        {
            "source": bind.source,
            "target": bind.target,
            "read_only": bind.read_only,
            # A container sees its own copy of what it cannot change, in which everybody may read it.
            "from_image": bind.read_only,
        }
        for bind in image.binds
        if Path(bind.source).exists()
    ]


def _named(container: Json) -> Iterator[tuple[str, str]]:
    """The ConfigMaps and Secrets that a container's environment names."""
    kinds = {"configMapRef": "configmaps", "secretRef": "secrets"}
    kinds |= {"configMapKeyRef": "configmaps", "secretKeyRef": "secrets"}
    rows = [*container.get("envFrom", ()), *(row.get("valueFrom", {}) for row in container.get("env", ()))]
    for row in rows:
        for key, reference in row.items():
            if key in kinds:
                yield kinds[key], reference["name"]

"""Where cycles live: the folder of a local run, or a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from alignment_operator.api import Api, Kind, Manifest
from alignment_operator.cli.errors import CommandError
from alignment_operator.cli.inputs import STATE
from alignment_operator.cli.program import is_plugin, program
from alignment_operator.local.directory import Directory
from alignment_operator.local.files import CorruptFileError, is_locked
from alignment_operator.local.progress import with_progress
from alignment_operator.local.run import is_held


@dataclass(frozen=True)
class Place:
    """An API, and what to call it; `state` is None for a cluster. A folder is looked through in every namespace.

    `other` says how to look into the place that was not chosen, where there are both.
    """

    api: Api
    namespace: str
    state: Path | None
    other: str = ""

    def __str__(self) -> str:
        return f"folder {self.state}" if self.state else f"cluster, namespace {self.namespace}"

    def heading(self) -> str:
        return f"# {self}{self.other}"

    def is_stopped(self, cycle: Manifest) -> bool:
        """Whether its iteration waits for the `alignctl run` that began it to be called again."""
        iteration = cycle.get("status", {}).get("iteration")
        unfinished = bool(iteration) and "outcome" not in iteration and not is_held(cycle)
        return unfinished and self.state is not None and not is_locked(self.state)

    async def every(self, kind: Kind) -> list[Manifest]:
        if isinstance(self.api, Directory):
            return [with_progress(self.api, item) for item in self.api.all(kind)]
        return await self.api.list(kind, self.namespace, {})

    async def one(self, kind: Kind, name: str) -> Manifest:
        """Raises CommandError if there is none, or several in different namespaces of a folder."""
        objects = await self.every(kind)
        found = [item for item in objects if item["metadata"]["name"] == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise CommandError(f"{kind.kind} {name} is in several namespaces of {self}")
        known = ", ".join(item["metadata"]["name"] for item in objects) or "none"
        raise CommandError(f"no {kind.kind} {name} in {self}; there: {known}")


@asynccontextmanager
async def place(state: Path | None, namespace: str | None) -> AsyncIterator[Place]:
    """--state names a folder, --namespace means a cluster; with neither, ./.alignment if it is there.

    `kubectl align` always means the cluster. Raises CommandError.
    """
    chosen = state
    if state is None and namespace is None and not is_plugin() and STATE.is_dir():
        state = STATE
    if state is not None:
        if not state.is_dir():
            raise CommandError(
                f"--state {state}: there is no such folder; name the one of an `{program()} run`"
            )
        if not (state / "objects").is_dir():
            raise CommandError(f"{state}: nothing was run in this folder yet; see `{program()} run --help`")
        other = "" if chosen or not _has_cluster() else "; the cluster: kubectl align, or -n NAMESPACE"
        try:
            yield Place(Directory(state), "", state, other)
        except CorruptFileError as error:
            raise CommandError(str(error)) from error
        return
    async with _cluster(
        namespace, "" if namespace or is_plugin() else f"no folder {STATE} here, and "
    ) as there:
        yield there


@asynccontextmanager
async def _cluster(namespace: str | None, why: str) -> AsyncIterator[Place]:
    import aiohttp  # noqa: PLC0415 - half a second that a folder does not need

    from alignment_operator.api import NotFoundError, RefusedError  # noqa: PLC0415
    from alignment_operator.cluster import NoClusterError, ServerError, connect  # noqa: PLC0415

    logging.basicConfig(handlers=[logging.NullHandler()])  # what the client logs, its exceptions say too
    try:
        async with connect() as api:
            other = f"; the folder: --state {STATE}" if (STATE / "objects").is_dir() else ""
            yield Place(api, namespace or _context_namespace(), None, other)
    except NoClusterError as error:
        raise CommandError(f"{why}{error}") from error
    except NotFoundError as error:
        raise CommandError(f"{error}; are the CRDs installed? kubectl apply -f crds/") from error
    except (RefusedError, ServerError) as error:
        raise CommandError(f"the API server says: {error}") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CommandError(f"the cluster cannot be reached: {error}") from error


def _has_cluster() -> bool:
    """Whether kubectl would find one, reachable or not."""
    files = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return any(Path(file).is_file() for file in files.split(os.pathsep) if file)


def _context_namespace() -> str:
    from kubernetes.aio import config  # noqa: PLC0415

    try:
        _, active = config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))
    except (config.ConfigException, OSError):  # in a pod there is no such file
        return "default"
    return str(active["context"].get("namespace") or "default")

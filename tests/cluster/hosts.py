"""The /etc/hosts of pods, in place of cluster DNS: everything has the address 127.0.0.1."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.cluster.api import Api, Json
from tests.cluster.status import ADDRESS


async def hosts_file(api: Api, pod: Json) -> str:
    """Names of the pod, of the other pods of its Indexed Job, and of the Services that there are now."""
    services = await api.get("/api/v1/services")
    listed: list[Json] = services["items"] if services else []
    named = [(item["metadata"]["name"], item["metadata"]["namespace"]) for item in listed]
    names = [
        pod["metadata"]["name"],
        *pod_names(pod, await _completions(api, pod)),
        *service_names(pod, named),
    ]
    lines = [f"{ADDRESS} localhost", "::1 localhost", *(f"{ADDRESS} {name}" for name in dict.fromkeys(names))]
    return "\n".join(lines) + "\n"


def service_names(pod: Json, services: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Names by which a pod finds Services, given by name and namespace."""
    for name, namespace in services:
        if namespace == pod["metadata"]["namespace"]:
            yield name
        yield from _qualified(f"{name}.{namespace}")


def pod_names(pod: Json, completions: int) -> Iterator[str]:
    """Names by which the pods of one Indexed Job, or just this pod, find each other."""
    spec, metadata = pod["spec"], pod["metadata"]
    own = spec.get("hostname")
    if own is None:
        return
    yield own
    job = metadata.get("labels", {}).get("batch.kubernetes.io/job-name")
    if subdomain := spec.get("subdomain"):
        for name in dict.fromkeys([own, *(f"{job}-{index}" for index in range(completions))]):
            yield f"{name}.{subdomain}"
            yield from _qualified(f"{name}.{subdomain}.{metadata['namespace']}")


def _qualified(name: str) -> tuple[str, ...]:
    return name, f"{name}.svc", f"{name}.svc.cluster.local"


async def _completions(api: Api, pod: Json) -> int:
    metadata = pod["metadata"]
    job = metadata.get("labels", {}).get("batch.kubernetes.io/job-name")
    if job is None or "subdomain" not in pod["spec"]:
        return 0
    found = await api.get(f"/apis/batch/v1/namespaces/{metadata['namespace']}/jobs/{job}")
    return int((found or {}).get("spec", {}).get("completions") or 0)

"""What an account may do, and what by the API server's audit log it did."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.cluster.api import Json


class Access(NamedTuple):
    """One verb on one resource, as a rule of a Role has them."""

    group: str
    resource: str
    verb: str


def granted(role: Json) -> set[Access]:
    return {
        Access(group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used(log: Path, deployment: str, namespace: str) -> set[Access]:
    """By the pods of a Deployment."""
    return {access for event in _events(log, deployment, namespace) for access in _accesses(event)}


def forbidden(log: Path, deployment: str, namespace: str) -> list[str]:
    """What RBAC refused to the pods of a Deployment."""
    return [
        f"{event['verb']} {event['requestURI']}"
        for event in _events(log, deployment, namespace)
        if event["annotations"].get("authorization.k8s.io/decision") != "allow"
    ]


def _events(log: Path, deployment: str, namespace: str) -> Iterator[Json]:
    """Others run under the same account, such as the pod of `helm test`."""
    with log.open() as lines:
        for line in lines:
            event = json.loads(line)
            user = event["user"]
            pods = user.get("extra", {}).get("authentication.kubernetes.io/pod-name", [""])
            theirs = user.get("username", "").startswith(f"system:serviceaccount:{namespace}:")
            if theirs and pods[0].startswith(f"{deployment}-") and not pods[0].endswith("-test"):
                yield event


def _accesses(event: Json) -> Iterator[Access]:
    at = event.get("objectRef")
    if at is None or "resource" not in at:
        return  # discovery, which everybody may
    resource = "/".join(filter(None, (at["resource"], at.get("subresource"))))
    yield Access(at.get("apiGroup", ""), resource, event["verb"])
    # Server-side apply of what is not there is authorized a second time, as the creation that it is.
    if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
        yield Access(at.get("apiGroup", ""), resource, "create")

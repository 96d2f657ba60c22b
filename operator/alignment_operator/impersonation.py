"""Whom the kubeconfig's user acts as: `as` in it, which the client itself passes over.

https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
"""

from __future__ import annotations

from typing import Any

from kubernetes.aio.config.kube_config import KubeConfigMerger

_NOT_DONE = ("as-groups", "as-user-extra")


class ImpersonationError(Exception):
    """What cannot be said in one header; acting as somebody else than told would be worse."""


def headers(files: str) -> dict[str, str]:
    """For every request by these kubeconfig files, separated as in $KUBECONFIG. Raises ImpersonationError."""
    config = KubeConfigMerger(files).config
    if config is None:
        return {}
    context = config["contexts"].get_with_name(config["current-context"])["context"]
    name = context.safe_get("user")
    user: dict[str, Any] = config["users"].get_with_name(name)["user"].value if name else {}
    for field in _NOT_DONE:
        if user.get(field):
            raise ImpersonationError(
                f"the kubeconfig's user {name} has {field}, which this program cannot do; use the credentials of "
                "whom is meant"
            )
    wanted = {"Impersonate-User": user.get("as"), "Impersonate-Uid": user.get("as-uid")}
    return {header: str(value) for header, value in wanted.items() if value}

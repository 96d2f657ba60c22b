"""What the operator writes, as RBAC has it, and what the chart lets it write."""

from __future__ import annotations

from collections.abc import Iterator

from tests.chart.audit import Access, granted
from tests.chart.charts import NAME, of_kind, render

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_CREATED = 201


def accesses(method: str, path: str, status: int) -> Iterator[Access]:
    """Of a write that was answered with this HTTP status."""
    root, _, rest = path.partition("/namespaces/")
    group = root.split("/")[2] if root.startswith("/apis/") else ""
    plural, _, subresource = [*rest.split("/"), "", ""][1:4]
    resource = "/".join(filter(None, (plural, subresource)))
    yield Access(group, resource, _VERBS[method])
    # Server-side apply of what is not there is authorized a second time, as the creation that it is.
    if method == "PATCH" and status == _CREATED:
        yield Access(group, resource, "create")


def granted_writes() -> set[Access]:
    """By the chart."""
    (role,) = [each for each in of_kind(render(), "ClusterRole") if each["metadata"]["name"] == NAME]
    return {access for access in granted(role) if access.verb in _VERBS.values()}

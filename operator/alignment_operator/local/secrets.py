"""Where there is no cluster, a variable of the environment stands for a key of a Secret.

For a whole Secret of which nobody named a key stand the variables by which the user's own programs reach buckets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from alignment_api.judges import SecretKey
from alignment_api.sources import CREDENTIALS

# Of a user's variables those that say who asks, and where; others are for other programs, and no bucket knows them.
_OWN = re.compile(
    r"AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|(DEFAULT_)?REGION|ENDPOINT_URL(_S3)?|SKIP_SIGNATURE)"
    r"|GOOGLE_(SERVICE_ACCOUNT|SERVICE_ACCOUNT_KEY|SERVICE_ACCOUNT_PATH|APPLICATION_CREDENTIALS)|AZURE_STORAGE_\w+"
)


class Secrets:
    """`variables`: names of environment variables, by `SECRET/KEY`."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Of a container's variables those that refer to a Secret."""
        references = {
            item["name"]: item["valueFrom"]["secretKeyRef"]
            for item in container.get("env", [])
            if "secretKeyRef" in item.get("valueFrom", {})
        }
        named = {name: self._variables.get(f"{ref['name']}/{ref['key']}") for name, ref in references.items()}
        whole = {
            f"{source['prefix']}{key}": variable
            for source in container.get("envFrom", [])
            for key, variable in self._keys(source["secretRef"]["name"]).items()
        }
        return {
            name: os.environ.get(variable, "") for name, variable in {**named, **whole}.items() if variable
        }

    @contextmanager
    def file(self, key: SecretKey) -> Iterator[str]:
        """A path at which this user's processes read the key, which no disk gets; empty if it was not named."""
        variable = self._variables.get(f"{key.name}/{key.key}")
        if variable is None:
            yield ""
            return
        descriptor = os.memfd_create("key")
        try:
            os.write(descriptor, os.environ.get(variable, "").encode())
            yield f"/proc/{os.getpid()}/fd/{descriptor}"
        finally:
            os.close(descriptor)

    def _keys(self, secret: str) -> dict[str, str]:
        beginnings = tuple(CREDENTIALS.values())
        named = {name.partition("/")[::2]: variable for name, variable in self._variables.items()}
        given = {key: variable for (of, key), variable in named.items() if of == secret}
        known = {key: variable for key, variable in given.items() if key.startswith(beginnings)}
        return known or {name: name for name in os.environ if _OWN.fullmatch(name)}

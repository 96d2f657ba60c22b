"""Where there is no cluster, a variable of the environment stands for a key of a Secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


class Secrets:
    """`variables`: names of environment variables, by `SECRET/KEY`."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Of a container's variables those that refer to a Secret that was named."""
        references = {
            item["name"]: item["valueFrom"]["secretKeyRef"]
            for item in container.get("env", [])
            if "secretKeyRef" in item.get("valueFrom", {})
        }
        named = {name: self._variables.get(f"{ref['name']}/{ref['key']}") for name, ref in references.items()}
        return {name: os.environ.get(variable, "") for name, variable in named.items() if variable}

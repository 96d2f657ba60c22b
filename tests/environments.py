"""Programs from PyPI that ask for other versions of what the project is built on, each in an environment of its own."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.cluster.build import cache_root


@cache
def programs(pins: Path) -> Path:
    """The folder of the programs that a file with hashes names; made once."""
    digest = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:16]
    target = cache_root() / f"{pins.stem}-{digest}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{pins.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Programs name the folder that they were installed into, so it can't be moved when it is complete.
        if not (target / "complete").exists():
            shutil.rmtree(target, ignore_errors=True)
            uv = Path(sys.prefix) / "bin" / "uv"
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, target], check=True)
            # Compiled once: whoever tells Python to write no bytecode would have all of it compiled at each start.
            install = ["pip", "install", "--quiet", "--compile-bytecode", "--require-hashes", "--python"]
            subprocess.run([uv, *install, target / "bin" / "python", "-r", pins], check=True)
            (target / "complete").touch()
    return target / "bin"

"""CPU seconds of the commands that people type most: `alignctl --help` and `alignctl validate`.

    python benchmarks/cli_startup.py

Exits with 1 if the median of a command is above its limit.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

ALIGNCTL = str(Path(sys.executable).parent / "alignctl")
QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart"
TIMES = 9


def cpu_seconds(command: Sequence[str]) -> float:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    too_slow = 0
    for words, limit in ((("--help",), 0.3), (("validate", "-f", str(QUICKSTART / "cycle.yaml")), 1.0)):
        found = sorted(cpu_seconds((ALIGNCTL, *words)) for _ in range(TIMES))
        spread = f"{found[0]:.2f} to {found[-1]:.2f}"
        print(f"alignctl {words[0]}: median {median(found):.2f} s of CPU ({spread}), limit {limit} s")
        too_slow += median(found) > limit
    return int(too_slow > 0)


if __name__ == "__main__":
    sys.exit(main())

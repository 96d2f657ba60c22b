"""How the stage `train` grows: with the rows that it is given, and with the processes that share them.

    python benchmarks/train_growth.py rows 1000 10000 100000
    python benchmarks/train_growth.py processes --rounds 3

Rows: the quickstart's own pairs again and again, as the judge stage leaves them; the stage is ended after twenty steps,
when all its data is prepared. Processes: one against two, on the same rows, in batches of the same size.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import judged_folder
import turns
from process_tree import Peak
from train_dpo import ASSETS, by_stage, judged, stage_command

from alignment_worker import rows
from alignment_worker.artifacts import PAIRS

STEPS = 20
LEARNING_RATE = 5e-7
TERMINATED = 143


def prepare(work: Path, count: int) -> None:
    """The folder `judge` with so many rows; each has the log-probabilities that were computed of its pair."""
    start = work / "start"
    if not start.exists():
        start.symlink_to(ASSETS / "policy")
    known = judged(start, rows.load(ASSETS / "pairs.jsonl")[:count])
    given = ({**known[n % len(known)], "line": n + 1} for n in range(count))
    judged_folder.seal(work / "judge", PAIRS, given)


def until_steps(command: Sequence[str], work: Path, environment: dict[str, str]) -> dict[str, float]:
    """Seconds and CPU seconds before the first step, and the peak of memory after twenty."""
    progress, began = work / "progress", time.monotonic()
    progress.unlink(missing_ok=True)
    prepared: dict[str, float] = {}
    with subprocess.Popen(command, env=environment) as process:
        peak = Peak(process.pid)
        peak.start()
        while process.poll() is None:
            told: dict[str, Any] = json.loads(progress.read_text()) if progress.exists() else {}
            if told.get("unit") == "steps":
                if not prepared:
                    prepared = {"seconds": time.monotonic() - began, "cpuSeconds": cpu_seconds(process.pid)}
                if told["done"] >= STEPS:
                    process.send_signal(signal.SIGTERM)
                    break
            time.sleep(0.1)
        status = process.wait()
        peak.stop()
    if not prepared or status not in {0, TERMINATED}:
        raise SystemExit(f"the stage ended with {status} before it had trained {STEPS} steps")
    return prepared | {"peakMib": peak.peak_kib / 1024}


def cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def by_rows(counts: Sequence[int], environment: dict[str, str]) -> str:
    lines = [
        "| rows | file, MiB | before the first step, s | CPU, s | peak, MiB |",
        "|---|---|---|---|---|",
    ]
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            prepare(work, count)
            found = until_steps(stage_command(work, LEARNING_RATE), work, environment)
            size = (work / "judge" / judged_folder.RUN / PAIRS).stat().st_size / 2**20
        lines.append(
            f"| {count:,} | {size:.1f} | {found['seconds']:.1f} | {found['cpuSeconds']:.1f} | {found['peakMib']:.0f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def by_processes(rounds: int, count: int, environment: dict[str, str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        prepare(work, count)
        contenders = {
            "two processes": lambda: by_stage(work, LEARNING_RATE, environment, processes=2),
            "one process": lambda: by_stage(work, LEARNING_RATE, environment),
        }
        return turns.table(turns.taken(rounds, contenders))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    kinds = parser.add_subparsers(dest="kind", required=True)
    kinds.add_parser("rows").add_argument("counts", type=int, nargs="+")
    processes = kinds.add_parser("processes")
    processes.add_argument("--rounds", type=int, default=3)
    processes.add_argument("--pairs", type=int, default=423)
    given = parser.parse_args()
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads)}
    if given.kind == "rows":
        print(by_rows(given.counts, environment))
    else:
        print(by_processes(given.rounds, given.pairs, environment))


if __name__ == "__main__":
    main()

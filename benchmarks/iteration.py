"""One iteration by `alignctl run` against the same work by a hand-fused script, turn by turn.

    python benchmarks/iteration.py --rounds 3

Prints a table and, with --json FILE, writes what was measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import turns
from process_tree import Cost, cost_of

HERE = Path(__file__).parent
QUICKSTART = HERE.parent / "examples" / "quickstart"
PARTS = ("start", "sample", "judge", "train", "evaluate", "compare", "promote")
ENDED_WELL = {0, 3, 4}  # promoted, rejected, held for a person: an iteration all the same


def by_operator(assets: Path, environment: dict[str, str]) -> tuple[Cost, dict[str, float]]:
    """`alignctl run` in a fresh state folder and store."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        store.mkdir()
        claims = (f"quickstart-assets={assets}", f"quickstart-store={store}")
        command = [str(Path(sys.executable).parent / "alignctl"), "run", "-f", str(QUICKSTART / "cycle.yaml")]
        command += [word for claim in claims for word in ("--claim", claim)]
        cost = cost_of([*command, "--state", f"{folder}/state", "-o", "json"], environment)
        if cost.exit_status not in ENDED_WELL:
            raise SystemExit(f"alignctl run ended with {cost.exit_status}:\n{cost.output}")
        return cost, parts_of(json.loads(cost.output), cost)


def parts_of(cycle: dict[str, Any], cost: Cost) -> dict[str, float]:
    """Seconds of each stage, by status; `start` is the rest: command, warm process, decisions."""
    stages = cycle["status"]["iteration"]["stages"]
    parts = {
        stage["name"]: (instant(stage["finishedAt"]) - instant(stage["startedAt"])).total_seconds()
        for stage in stages
    }
    return {"start": cost.wall_seconds - sum(parts.values())} | parts


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def by_script(assets: Path, environment: dict[str, str]) -> tuple[Cost, dict[str, float]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "fused_script.py"), "--assets", str(assets), "--output", folder]
        cost = cost_of(command, environment)
        if cost.exit_status:
            raise SystemExit(f"the script ended with {cost.exit_status}:\n{cost.output}")
        parts: dict[str, float] = json.loads(cost.output.splitlines()[-1])["seconds"]
        return cost, parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=QUICKSTART / "quickstart-assets")
    turns.options(parser)
    given = parser.parse_args()
    environment = turns.environment(given.threads)
    rounds: list[dict[str, Any]] = []
    for number in range(given.rounds):
        order = (("alignctl run", by_operator), ("fused script", by_script))
        row: dict[str, Any] = {}
        for name, measured in order if number % 2 == 0 else reversed(order):
            cost, parts = measured(given.assets.absolute(), environment)
            row[name] = {**asdict(cost), "output": "", "parts": parts}
            print(f"round {number + 1}, {name}: {shown(cost)}", file=sys.stderr, flush=True)
        rounds.append(row)
    print(table(rounds))
    if given.json:
        given.json.write_text(json.dumps(rounds, indent=1))


def shown(cost: Cost) -> str:
    return f"{cost.wall_seconds:.1f} s wall, {cost.cpu_seconds:.1f} s CPU, peak {cost.peak_mib:.0f} MiB"


def table(rounds: list[dict[str, Any]]) -> str:
    """Medians, and the median of the ratios of the rounds with their range."""
    lines = ["| | alignctl run | fused script | ratio (least, most) |", "|---|---|---|---|"]
    for label, key, unit in (
        ("wall", "wall_seconds", "s"),
        ("CPU", "cpu_seconds", "s"),
        ("peak memory", "peak_mib", "MiB"),
    ):
        ours, theirs = ([row[name][key] for row in rounds] for name in ("alignctl run", "fused script"))
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        lines.append(
            f"| {label} | {median(ours):.1f} {unit} | {median(theirs):.1f} {unit} | "
            f"{median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f}) |"
        )
    for part in PARTS:
        ours, theirs = (
            [row[name]["parts"].get(part, 0.0) for row in rounds] for name in ("alignctl run", "fused script")
        )
        lines.append(f"| {part} | {median(ours):.1f} s | {median(theirs):.1f} s | |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()

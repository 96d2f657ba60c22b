"""Commands that do the same work, turn by turn, and the ratios of what they did."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

from process_tree import Cost

Row = dict[str, float]
KINDS = {
    "tokensPerSecond": "tokens a second",
    "tokensPerCpuSecond": "tokens a CPU second",
    "peakMib": "peak memory, MiB",
}


def options(parser: argparse.ArgumentParser) -> None:
    """How often, with how many threads, and where the figures go."""
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of each process; left out: as the libraries choose")
    parser.add_argument("--json", type=Path)


def environment(threads: int | None) -> dict[str, str]:
    return os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def told(found: Sequence[Mapping[str, Row]], file: Path | None) -> None:
    """The table, and all figures as JSON if there is a file for them."""
    print(table(found))
    if file:
        file.write_text(json.dumps(found, indent=1))


def taken(count: int, contenders: Mapping[str, Callable[[], tuple[Cost, int]]]) -> list[dict[str, Row]]:
    """So many rounds; each contender says what it cost, and how many tokens it did. Every other round is reversed,
    so that a slow drift of the machine favours none."""
    found = []
    for number in range(count):
        order = list(contenders.items())
        round_: dict[str, Row] = {}
        for name, contender in order if number % 2 == 0 else reversed(order):
            cost, tokens = contender()
            round_[name] = {
                "tokens": tokens,
                "seconds": cost.wall_seconds,
                "tokensPerSecond": tokens / cost.wall_seconds,
                "tokensPerCpuSecond": tokens / cost.cpu_seconds,
                "peakMib": cost.peak_mib,
            }
            print(f"round {number + 1}, {name}: {round_[name]}", file=sys.stderr, flush=True)
        found.append({name: round_[name] for name in contenders})
    return found


def ended(cost: Cost) -> Cost:
    """Raises SystemExit if the command failed."""
    if cost.exit_status:
        raise SystemExit(f"ended with {cost.exit_status}:\n{cost.output}")
    return cost


def table(found: Sequence[Mapping[str, Row]]) -> str:
    """Medians, and of the first against each other the median of the rounds' ratios with their range."""
    first, *others = found[0]
    head = ["", first, *(word for other in others for word in (other, "ratio (least, most)"))]
    lines = [_line(head), "|---" * len(head) + "|"]
    for key, label in KINDS.items():
        cells = [label, f"{median(row[first][key] for row in found):.0f}"]
        for other in others:
            ratios = [row[first][key] / row[other][key] for row in found]
            cells.append(f"{median(row[other][key] for row in found):.0f}")
            cells.append(f"{median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})")
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |", 1)

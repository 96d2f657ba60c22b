"""Three iterations in a row on the quickstart, by method and reference: gold accuracy, and win rate against M_0.

    python benchmarks/iterations.py                                     # everything that was not measured yet
    python benchmarks/iterations.py --method DPO --reference Previous

`alignctl run` three times on one state folder and one store. Each iteration's numbers go to METHOD-REFERENCE.json as
soon as it has ended, and what stands there is not run again; a run that was stopped goes on where it was. Then all that
was measured is printed, and drawn.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import yaml
from matplotlib import pyplot

from alignment_worker import rows
from alignment_worker.compare import win_rate_of
from alignment_worker.contests import ByScore
from alignment_worker.progress import Progress
from alignment_worker.scoring import Verifier

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ASSETS = EXAMPLES / "quickstart" / "quickstart-assets"
MANIFESTS = {
    "DPO": "quickstart/cycle.yaml",
    "IPO": "methods/ipo.yaml",
    "KTO": "methods/kto.yaml",
    "BestOfN": "methods/best-of-n.yaml",
    "PPO": "methods/ppo.yaml",
}
REFERENCES = ("Previous", "Initial")
ITERATIONS = 3
ENDED = {0: "Promoted", 3: "Rejected"}
# A third of the prompts and of the episodes: an iteration on all of them leaves the next little to learn.
PROMPTS, EPISODES = 115, 1280

Point = dict[str, Any]
Runs = Mapping[tuple[str, str], Sequence[Point]]


def manifest(method: str, reference: str) -> dict[str, Any]:
    """The method's example, with a smaller draw, decided without a person, and M_0 asked every time."""
    cycle: dict[str, Any] = yaml.safe_load((EXAMPLES / MANIFESTS[method]).read_text())
    spec = cycle["spec"]
    spec["policy"]["reference"] = reference
    spec["prompts"]["perIteration"] = PROMPTS
    if method == "PPO":
        spec["training"]["ppo"]["totalEpisodes"] = EPISODES
    spec["gates"]["goldSet"]["maxDropFromInitialPoints"] = 2
    spec["gates"]["onInconclusive"] = "Reject"
    return cycle


def measure(method: str, reference: str, folder: Path) -> None:
    """Raises SystemExit if an iteration came to no verdict, or did not start from the incumbent."""
    results = folder / f"{method}-{reference}.json"
    points: list[Point] = json.loads(results.read_text()) if results.is_file() else []
    store, file = folder / "store", folder / f"{method}-{reference}.yaml"
    store.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(manifest(method, reference)))
    command = [str(Path(sys.executable).parent / "alignctl"), "run", "-f", str(file), "-o", "json"]
    command += ["--state", str(folder / f"{method}-{reference}")]
    command += ["--claim", f"quickstart-assets={ASSETS}", "--claim", f"quickstart-store={store}"]
    while len(points) < ITERATIONS:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode not in ENDED:
            raise SystemExit(f"alignctl run ended with {done.returncode}: {' '.join(command)}")
        points.append(point(json.loads(done.stdout)["status"], store, points))
        results.write_text(json.dumps(points, indent=1))


def point(status: Mapping[str, Any], store: Path, before: Sequence[Point]) -> Point:
    """What an iteration came to. `start` and `candidate` are digests. Raises SystemExit as `measure`."""
    iteration = status["iteration"]
    start, incumbent = iteration["incumbent"]["digest"], served(before)
    if iteration["number"] != len(before) + 1:
        raise SystemExit(f"iteration {iteration['number']} follows on {len(before)} that were measured")
    if start != (incumbent["candidate"] if incumbent else status["initial"]["digest"]):
        raise SystemExit(f"iteration {iteration['number']} started from {start}, which is not promoted")
    (evaluated,) = (stage["result"] for stage in iteration["stages"] if stage["name"] == "evaluate")
    accuracies = [of["goldAccuracy"] for of in evaluated["byCategory"].values() if "goldAccuracy" in of]
    gold = sum(of["estimate"] * of["n"] for of in accuracies) / sum(of["n"] for of in accuracies)
    return {
        "iteration": iteration["number"],
        "outcome": iteration["outcome"],
        "reason": iteration["reason"],
        "start": start,
        "candidate": iteration["candidate"]["digest"],
        "gold": gold,
        "goldOfIncumbent": gold - evaluated["measurements"]["goldPooled"]["estimate"],
        "winRateAgainstInitial": win_rate(evaluated["manifest"]["uri"], store),
    }


def win_rate(evaluated: str, store: Path) -> dict[str, Any]:
    """Of the candidate's held-out answers against M_0's, as the stage `compare` judges those of the incumbent."""
    run = store / evaluated.removeprefix("pvc://quickstart-store/")
    (answers,) = run.glob("run-*/answers.jsonl")
    against = [{**row, "incumbent": row["initial"]} for row in rows.load(answers)]
    return win_rate_of(ByScore(Verifier(), Progress()).contests(against), 0.95).to_wire()


def served(points: Sequence[Point]) -> Point | None:
    """The last that was promoted."""
    return next((point for point in reversed(points) if point["outcome"] == "Promoted"), None)


def table(runs: Runs) -> str:
    lines = [
        "| method | reference | iteration | start | candidate | outcome | gold | win rate against M_0 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (method, reference), points in runs.items():
        for point in points:
            rate = point["winRateAgainstInitial"]
            outcome = f"{point['outcome']} ({point['reason']})"
            start, candidate = (point[name].removeprefix("sha256:")[:8] for name in ("start", "candidate"))
            lines.append(
                f"| {method} | {reference} | {point['iteration']} | {start} | {candidate} | {outcome} "
                f"| {point['gold']:.1f} % | {rate['estimate']:.1f} % [{rate['low']:.1f}, {rate['high']:.1f}] |"
            )
    return "\n".join(lines)


def draw(runs: Runs, file: Path) -> None:
    """Lines lead through what is promoted after each iteration; a cross is a candidate that was refused."""
    mpl.rcParams.update({"backend": "Agg", "font.size": 9})
    methods = [method for method in MANIFESTS if any(method == name for name, _ in runs)]
    figure, axes = pyplot.subplots(
        2, len(methods), figsize=(2.2 * len(methods) + 0.8, 4.4), sharex=True, sharey="row", squeeze=False
    )
    for column, method in enumerate(methods):
        upper, lower = axes[0][column], axes[1][column]
        upper.set_title(method)
        lower.set_xlabel("iteration")
        for reference, colour, shift in (("Previous", "C0", -0.06), ("Initial", "C1", 0.06)):
            points = runs.get((method, reference))
            if points:
                label = f"reference {reference}"
                _line(
                    upper,
                    [points[0]["goldOfIncumbent"]],
                    [p["gold"] for p in points],
                    points,
                    colour,
                    shift,
                    label,
                )
                rates = [p["winRateAgainstInitial"]["estimate"] for p in points]
                _line(lower, [50.0], rates, points, colour, shift, label)
        for axis in (upper, lower):
            axis.grid(alpha=0.3)
            axis.set_xticks(range(ITERATIONS + 1))
    axes[0][0].set_ylabel("gold accuracy, %")
    axes[1][0].set_ylabel("win rate against M_0, %")
    axes[1][0].legend(loc="lower right", frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=100)


def _line(
    axis: Any,
    first: list[float],
    values: Sequence[float],
    points: Sequence[Point],
    colour: str,
    shift: float,
    label: str,
) -> None:
    kept = list(first)
    for value, point in zip(values, points, strict=True):
        kept.append(value if point["outcome"] == "Promoted" else kept[-1])
    axis.plot([x + shift for x in range(len(kept))], kept, "o-", color=colour, markersize=4, label=label)
    refused = [
        (point["iteration"] + shift, value)
        for value, point in zip(values, points, strict=True)
        if point["outcome"] != "Promoted"
    ]
    axis.plot([x for x, _ in refused], [y for _, y in refused], "x", color=colour, markersize=6)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--method", action="append", choices=list(MANIFESTS), help="left out: all")
    parser.add_argument("--reference", action="append", choices=REFERENCES, help="left out: both")
    parser.add_argument("--folder", type=Path, default=ROOT / ".alignment" / "iterations")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs" / "images" / "iterations.png")
    given = parser.parse_args()
    folder = given.folder.absolute()
    every = [
        (method, reference)
        for method in MANIFESTS
        for reference in REFERENCES
        if (method, reference) != ("BestOfN", "Initial")  # it anchors to nothing
    ]
    for method, reference in every:
        if method in (given.method or MANIFESTS) and reference in (given.reference or REFERENCES):
            measure(method, reference, folder)
    files = {(method, reference): folder / f"{method}-{reference}.json" for method, reference in every}
    runs = {run: json.loads(file.read_text()) for run, file in files.items() if file.is_file()}
    print(table(runs))
    draw(runs, given.plot)


if __name__ == "__main__":
    main()

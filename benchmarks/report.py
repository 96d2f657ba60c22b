"""`python benchmarks/report.py`: the report of an iteration with many comparisons: seconds, CPU seconds and bytes.

Each round is a process of its own, from its start to the last byte, as `alignctl run` and the Job of `kubectl align
report` call it; then the same is rendered here, where everything is imported already. No two answers are alike, and all
of both models are in the artifacts. Exits with 1 if rendering takes longer, or the page is larger, than it should be.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.operator.plan_world import World, cycle_spec
from tests.report.stored import CLAIM, Stored, comparisons, gold, training_log

MOST_SECONDS, MOST_BYTES = 2.0, 5_000_000
_WORDS = (
    "the",
    "model",
    "answers",
    "because",
    "which",
    "would",
    "therefore",
    "not",
    "see",
    "why",
    "it",
    "depends",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparisons", type=int, default=5000)
    parser.add_argument("--words", type=int, default=100, help="of an answer, on average")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        stored = _stored(folder, arguments.comparisons, arguments.words)
        config = folder / "config.json"
        config.write_text(json.dumps(stored.config().to_wire()))
        artifacts = sum(file.stat().st_size for file in stored.iterations.rglob("*.jsonl"))
        print(f"{arguments.comparisons:,} comparisons; {artifacts / 1e6:.1f} MB of artifacts", flush=True)
        command = [sys.executable, "-m", "alignment_worker.iteration_report"]
        command += ["--config", str(config), "--claim", f"{CLAIM}={stored.folder}"]
        processes = [_process(command) for _ in range(arguments.rounds)]
        rendered = [_rendered(stored) for _ in range(arguments.rounds)]
        size = len(stored.html().encode())
    _tell("a process", processes)
    took = _tell("rendering", rendered)
    print(f"{size:,} bytes")
    sys.exit(1 if took > MOST_SECONDS or size > MOST_BYTES else 0)


def _tell(what: str, rounds: list[tuple[float, float]]) -> float:
    wall, cpu = (statistics.median(each[index] for each in rounds) for index in (0, 1))
    print(f"{what}: {wall:.2f} s, {cpu:.2f} s of CPU (median of {len(rounds)})")
    return wall


def _rendered(stored: Stored) -> tuple[float, float]:
    began, before = time.perf_counter(), time.process_time()
    stored.html()
    return time.perf_counter() - began, time.process_time() - before


def _process(command: list[str]) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _stored(folder: Path, count: int, words: int) -> Stored:
    """A promotion with so many comparisons, a gold set of 2,000 items and 500 steps of training."""
    draw = random.Random(0)

    def text(_: int) -> str:
        return " ".join(draw.choices(_WORDS, k=max(1, round(draw.gauss(words, words / 3)))))

    answers = []
    for index in range(count):
        row = {"prompt": text(index), "category": f"category-{index % 8}", "line": index + 1}
        for side in ("candidate", "incumbent"):
            said = text(index)
            ids = [draw.randrange(30_000) for _ in range(round(1.3 * len(said.split())))]
            row[side] = {"ids": ids, "text": said, "truncated": False, "entropy": 0.4, "dependence": 1.0}
        answers.append(row)
    spec = cycle_spec()
    stored = Stored(folder / "store", World(spec=spec, annotations={"alignment.dev/run": "1"}))
    return stored.settle(
        {
            "evaluate/answers.jsonl": answers,
            "evaluate/gold.jsonl": gold(2000, text),
            "compare/comparisons.jsonl": comparisons(answers),
            "train/training-log.jsonl": training_log(500),
        }
    )


if __name__ == "__main__":
    main()

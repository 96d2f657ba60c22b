"""The stage `ingest` against `datasets` (load_dataset, map, filter, to_json), by number of rows, turn by turn.

    python benchmarks/ingest.py --rows 10000 100000 1000000

Rows as people's feedback has them: prompts of 5 to 60 words, answers of 20 to 120; every 50th row is a duplicate.
`--gold 900` has so many gold prompts kept out, which `datasets` is not asked to do; it leaves that out.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import turns
from process_tree import Cost, cost_of

from alignment_api.stage import (
    IngestedFiles,
    IngestedSource,
    IngestParameters,
    Input,
    InputKind,
    Stage,
    StageConfig,
    StageReport,
)

HERE = Path(__file__).parent


def write(file: Path, count: int, gold: Path | None = None, prompts: int = 0) -> None:
    draw = random.Random(0)
    known = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(20_000)]
    text = draw.choices(known, k=1_000_000)

    def words(least: int, most: int) -> str:
        start = int(draw.random() * (len(text) - most))
        return " ".join(text[start : start + least + int(draw.random() * (most - least + 1))])

    if gold is not None:
        gold.write_text("".join(json.dumps({"prompt": words(5, 60)}) + "\n" for _ in range(prompts)))
    with file.open("w") as out:
        line = ""
        for number in range(count):
            if number % 50 != 49:
                row = {"prompt": words(5, 60), "chosen": words(20, 120), "rejected": words(20, 120)}
                line = json.dumps(row)
            out.write(line + "\n")


def by_stage(work: Path, gold: Path | None, environment: dict[str, str]) -> tuple[Cost, int]:
    """`alignment_worker ingest`, as its Job runs it."""
    output = work / "stage"
    shutil.rmtree(output, ignore_errors=True)
    inputs = {"source/pairs": Input(uri=f"file://{work / 'pairs.jsonl'}", kind=InputKind.PAIRS)}
    if gold is not None:
        inputs["goldSet/0"] = Input(uri=f"file://{gold}", kind=InputKind.PROMPTS)
    config = StageConfig(
        stage=Stage.INGEST,
        owner_uid="uid",
        iteration=1,
        output=f"file://{output}",
        inputs=inputs,
        parameters=IngestParameters(sources=[IngestedSource(name="pairs", files=IngestedFiles())]),
        seed=0,
    )
    (work / "stage.json").write_text(json.dumps(config.to_wire()))
    command = [sys.executable, "-m", "alignment_worker", "ingest", "--config", str(work / "stage.json")]
    cost = turns.ended(cost_of([*command, "--report", str(work / "report")], environment))
    result = StageReport.decode((work / "report").read_text()).result
    assert result is not None
    return cost, result.counts["kept"]


def by_datasets(work: Path, environment: dict[str, str]) -> tuple[Cost, int]:
    cache, output = work / "cache", work / "plain.jsonl"
    shutil.rmtree(cache, ignore_errors=True)
    command = [sys.executable, str(HERE / "plain_ingest.py"), "--pairs", str(work / "pairs.jsonl")]
    cost = turns.ended(cost_of([*command, "--output", str(output), "--cache", str(cache)], environment))
    return cost, int(json.loads(cost.output.splitlines()[-1])["kept"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--gold", type=int, default=0)
    given = parser.parse_args()
    environment = turns.environment(1)
    print("| rows | | seconds | CPU seconds | peak, MiB |\n|---|---|---|---|---|")
    for count in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            gold = work / "gold.jsonl" if given.gold else None
            write(work / "pairs.jsonl", count, gold, given.gold)
            stage, kept = by_stage(work, gold, environment)
            _told(count, "stage ingest", stage)
            if gold is not None:
                continue
            plain, also = by_datasets(work, environment)
            _told(count, "datasets", plain)
            if kept != also:
                raise SystemExit(f"the stage kept {kept} rows, datasets {also}")
            ratios = (
                stage.wall_seconds / plain.wall_seconds,
                stage.cpu_seconds / plain.cpu_seconds,
                stage.peak_mib / plain.peak_mib,
            )
            print(f"| {count:,} | ratio | {' | '.join(f'{ratio:.2f}' for ratio in ratios)} |", flush=True)


def _told(count: int, what: str, cost: Cost) -> None:
    print(
        f"| {count:,} | {what} | {cost.wall_seconds:.1f} | {cost.cpu_seconds:.1f} | {cost.peak_mib:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()

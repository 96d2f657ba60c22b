"""How many labels that were turned round a judge and a filter see, on the quickstart's prompts and models.

    python benchmarks/poison.py [--pairs 2400] [--percent 0.5] [--seed 1]

People prefer the right answer to the wrong one, whatever is said around it, to prompts that no model here was trained
on. Of the pairs some are turned round. A refresh reads them all: the judge is the quickstart's sound reward model, the
filter its policy, by log-probability. The first so many of what each finds most suspect are then looked at.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.worker.logging_answers import LoggedDataset, answered

QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart"
ASSETS = QUICKSTART / "quickstart-assets"
LOOKED_AT = (1, 2, 5, 10)  # times as many as were planted


def pairs(count: int, draw: random.Random) -> list[dict[str, Any]]:
    sys.path.insert(0, str(QUICKSTART / "build"))
    tasks = importlib.import_module("tasks")
    sets = tasks.splits()
    sampler = tasks.Sampler(draw, sets)
    items = [*sets["gold"], *sets["heldout"]]
    made: dict[tuple[str, str, str], dict[str, Any]] = {}
    while len(made) < count:
        item = draw.choice(items)
        wrong = item.wrong if draw.random() < 0.7 else sampler.blunder(item)
        chosen, rejected = (
            sampler.say(draw.choice(tasks.FIRM + tasks.HEDGED), answer, draw.choices((0, 1, 2), (6, 3, 1))[0])
            for answer in (item.right, wrong)
        )
        made[item.prompt, chosen, rejected] = row(item.prompt, chosen, rejected)
    return list(made.values())


def row(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
    }


def told(name: str, suspects: list[int], planted: set[int]) -> None:
    """`suspects`: lines, the most suspect first."""
    print(
        f"{name}: {len(suspects)} suspect, {len(planted & set(suspects))} of {len(planted)} planted among them"
    )
    for times in LOOKED_AT:
        first = suspects[: times * len(planted)]
        found = len(planted & set(first))
        print(f"  of the first {len(first):4}: {found:3} planted, recall {100 * found / len(planted):.0f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2400)
    parser.add_argument("--percent", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    rows = pairs(arguments.pairs, draw)
    planted = set(draw.sample(range(len(rows)), round(len(rows) * arguments.percent / 100)))
    for place in planted:
        rows[place] |= {"chosen": rows[place]["rejected"], "rejected": rows[place]["chosen"]}
    lines = {place + 1 for place in planted}
    judge = {"rewardModel": {"uri": (ASSETS / "reward-sound").as_uri()}, "checkPairs": len(rows)}
    with tempfile.TemporaryDirectory() as folder:
        data = LoggedDataset(Path(folder))
        data.log(*answered("nothing is asked", "once"))
        data.people(rows)
        began = time.monotonic()
        done = data.refresh(judge, ASSETS / "reward-sound", filter_model=ASSETS / "policy", flag_below=0.0)
        seconds = time.monotonic() - began
        contested = [each["line"] for each in done.rows("contested-production.jsonl")]
        flagged = sorted(done.rows("flagged.jsonl"), key=lambda each: float(each["score"]))
    accuracy = done.result.by_category["production"]["judgeAccuracy"]
    print(f"{len(rows)} pairs, {len(lines)} turned round, {seconds:.0f} s")
    print(f"agreement {accuracy.estimate:.1f} % [{accuracy.low:.1f}, {accuracy.high:.1f}] of {accuracy.n}")
    told("judge", contested, lines)
    told("filter", [each["line"] for each in flagged], lines)
    low = {each["line"] for each in flagged[: len(flagged) // 4]}
    told("judge, and in the filter's lowest quarter", [line for line in contested if line in low], lines)


if __name__ == "__main__":
    main()

"""One iteration by hand, without the operator: sample, judge, DPO, measure.

It shows what the quickstart's two cycles should come to, from the same assets, by plain transformers and TRL:
`python examples/quickstart/build/trial.py --judge sound --seed 1`.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, log1p
from pathlib import Path

import torch
from common import ASSETS, seed_everything
from datasets import Dataset
from policy import decode, generate
from reward import scores
from tasks import CATEGORIES, Item, right, splits
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from trl import DPOConfig, DPOTrainer

SAMPLES = 6


Answers = list[list[int]]
Judge = Callable[[list[Item], list[str]], list[float]]


@dataclass(frozen=True)
class Measured:
    """A checkpoint's greedy answers to the gold and held-out sets, and one sampled answer to each held-out prompt."""

    gold: list[bool]
    right: list[bool]
    reward: list[float]
    held: Answers
    drawn: Answers


def judge_of(name: str, assets: Path, tokenizer: PreTrainedTokenizerFast) -> Judge:
    if name in {"verifier", "offline"}:
        return lambda items, texts: [float(right(i, t)) for i, t in zip(items, texts, strict=True)]
    model = AutoModelForSequenceClassification.from_pretrained(
        assets / f"reward-{name}", dtype=torch.float32
    ).eval()

    @torch.no_grad()
    def judge(items: list[Item], texts: list[str]) -> list[float]:
        rows = [(i.prompt, t) for i, t in zip(items, texts, strict=True)]
        return [
            s for n in range(0, len(rows), 256) for s in scores(model, tokenizer, rows[n : n + 256]).tolist()
        ]

    return judge


def best_and_worst(
    items: list[Item], answers: list[Answers], tokenizer: PreTrainedTokenizerFast, judge: Judge
) -> list[dict[str, object]]:
    """The pair of each prompt; of equals the shorter is chosen. A prompt with answers all alike has none."""
    rows: list[dict[str, object]] = []
    texts = [[decode(tokenizer, a) for a in several] for several in answers]
    flat = judge([i for i in items for _ in range(SAMPLES)], [t for several in texts for t in several])
    for n, item in enumerate(items):
        marks = flat[n * SAMPLES : (n + 1) * SAMPLES]
        order = sorted(range(SAMPLES), key=lambda k: (-marks[k], len(answers[n][k])))
        best, worst = order[0], order[-1]
        if marks[best] > marks[worst]:
            row: dict[str, object] = {"prompt": item.row()["prompt"]}
            for name, k in (("chosen", best), ("rejected", worst)):
                row[name] = [{"role": "assistant", "content": texts[n][k]}]
            rows.append(row)
    return rows


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: list[dict[str, object]],
    args: argparse.Namespace,
) -> PreTrainedModel:
    with tempfile.TemporaryDirectory() as folder:
        config = DPOConfig(
            output_dir=folder,
            learning_rate=args.learning_rate,
            beta=args.beta,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=32,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            save_strategy="no",
            logging_steps=1000,
            report_to="none",
            disable_tqdm=True,
            seed=args.seed,
        )
        DPOTrainer(
            model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        ).train()
    # Gates read the stored bytes, and a candidate may be stored in bf16.
    return model.to(torch.bfloat16).to(torch.float32)


def measure(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, sets: dict[str, list[Item]], judge: Judge
) -> Measured:
    gold, heldout = sets["gold"], sets["heldout"]
    answers = [a[0] for a in generate(model, tokenizer, [i.prompt for i in gold])]
    held = [a[0] for a in generate(model, tokenizer, [i.prompt for i in heldout], max_new_tokens=128)]
    texts = [decode(tokenizer, a) for a in held]
    return Measured(
        gold=[right(i, decode(tokenizer, a)) for i, a in zip(gold, answers, strict=True)],
        right=[right(i, t) for i, t in zip(heldout, texts, strict=True)],
        reward=judge(heldout, texts),
        held=held,
        drawn=[a[0] for a in generate(model, tokenizer, [i.prompt for i in heldout], samples=1)],
    )


def distinct_2(answers: Answers, tokens: int = 1500) -> float:
    """The share of distinct pairs of tokens among the first so many."""
    pairs = [pair for answer in answers for pair in pairwise(answer)][:tokens]
    return len(set(pairs)) / len(pairs)


def identical(answers: Answers) -> float:
    """The share of answers that another prompt has been given too."""
    return sum(n for n in Counter(map(tuple, answers)).values() if n > 1) / len(answers)


def evidence(wins: list[float]) -> int | None:
    """After how many comparisons a betting test at 95 % has decided that the mean exceeds one half."""
    bets = [0.1 * k for k in range(1, 20)]
    wealth = [0.0] * len(bets)
    for n, x in enumerate(wins, 1):
        wealth = [w + log1p(bet * (x - 0.5)) for w, bet in zip(wealth, bets, strict=True)]
        top = max(wealth)
        if top + log(sum(exp(w - top) for w in wealth) / len(bets)) > log(20):
            return n
    return None


def summary(found: Measured, gold: list[Item], eos: int) -> dict[str, object]:
    rows: dict[str, object] = {}
    for category in CATEGORIES:
        marks = [m for i, m in zip(gold, found.gold, strict=True) if i.category == category]
        rows[category] = round(sum(marks) / len(marks), 3)
    rows["all"] = round(sum(found.gold) / len(found.gold), 3)
    rows["tokens"] = round(sum(map(len, found.held)) / len(found.held), 1)
    rows["truncated"] = sum(a[-1] != eos for a in found.held)
    rows["distinct-2, greedy and sampled"] = [round(distinct_2(a), 3) for a in (found.held, found.drawn)]
    rows["identical, greedy and sampled"] = [round(identical(a), 3) for a in (found.held, found.drawn)]
    return rows


def comparison(before: Measured, after: Measured, seed: int) -> dict[str, object]:
    rng = random.Random(seed)
    rows: dict[str, object] = {}
    flips = Counter(zip(before.gold, after.gold, strict=True))
    rows["gold gained:lost"] = f"{flips[False, True]}:{flips[True, False]}"
    sizes = [(len(a), len(b)) for a, b in zip(after.held, before.held, strict=True)]
    everywhere = list(range(len(sizes)))
    for name, kept in (
        ("won:lost", everywhere),
        ("won:lost, not over a fifth longer", [k for k in everywhere if sizes[k][0] <= 1.2 * sizes[k][1]]),
    ):
        wins = [0.5 + (after.right[k] - before.right[k]) / 2 for k in kept]
        rng.shuffle(wins)
        rows[name] = f"{wins.count(1.0)}:{wins.count(0.0)} of {len(wins)}, decided after {evidence(wins)}"
    draws = (rng.choices(sizes, k=len(sizes)) for _ in range(1000))
    ratios = sorted(sum(a for a, _ in draw) / sum(b for _, b in draw) for draw in draws)
    rows["length ratio, low to high"] = [round(ratios[k], 2) for k in (25, 500, 975)]
    better = [a > b for a, b in zip(after.reward, before.reward, strict=True) if a != b]
    rows["preferred by the judge itself"] = f"{sum(better)} of {len(better)}"
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, default=ASSETS)
    parser.add_argument("--judge", choices=("sound", "length-biased", "verifier", "offline"), default="sound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--beta", type=float, default=0.1)
    args = parser.parse_args()
    seed_everything(args.seed, args.threads)
    tokenizer = AutoTokenizer.from_pretrained(args.assets / "policy")
    model = AutoModelForCausalLM.from_pretrained(args.assets / "policy", dtype=torch.float32)
    sets = splits()
    judge = judge_of(args.judge, args.assets, tokenizer)
    before = measure(model, tokenizer, sets, judge)
    if args.judge == "offline":
        rows = [json.loads(line) for line in (args.assets / "pairs.jsonl").read_text().splitlines()]
    else:
        answers = generate(model, tokenizer, [i.prompt for i in sets["prompts"]], samples=SAMPLES, batch=600)
        rows = best_and_worst(sets["prompts"], answers, tokenizer, judge)
    started = time.monotonic()
    model = train(model, tokenizer, rows, args)
    seconds = round(time.monotonic() - started)
    after = measure(model, tokenizer, sets, judge)
    result: dict[str, object] = {
        "judge": args.judge,
        "seed": args.seed,
        "pairs": len(rows),
        "training, s": seconds,
    }
    for name, found in (("M_0", before), ("candidate", after)):
        result[name] = summary(found, sets["gold"], tokenizer.eos_token_id)
    print(json.dumps(result | comparison(before, after, args.seed), indent=2))


if __name__ == "__main__":
    main()

"""Of how many topics a draw of prompts holds any, uniform and spread over clusters, on a log that asks one thing most.

    python benchmarks/spread.py MODEL_FOLDER [--common 1500] [--draw 64]

Rare topics are an action and a thing, asked in three ways each; the common one is a password, asked in many ways.
"""

from __future__ import annotations

import argparse
import itertools
import random
from pathlib import Path

import numpy as np
from near_duplicates import SUBJECTS

from alignment_worker.dataset_prompts import order
from alignment_worker.embedding import Embedder
from alignment_worker.ingestion import clusters

SEEDS = 20
WAYS = ("how can I {}", "I want to {} please", "is it possible to {} with you")
OPENINGS = (
    "how do I",
    "please help me to",
    "I need to",
    "can you",
    "what must I do to",
    "I cannot",
    "help me",
    "where do I",
)
VERBS = ("reset", "change", "recover", "renew", "restore")
WHAT = ("my password", "the password", "my account's password", "my login password", "the forgotten password")
TAILS = (
    "",
    " on my phone",
    " today",
    " on the website",
    " again",
    " for the shop",
    " without e-mail",
    " quickly",
    " at work",
)


def asked(common: int) -> tuple[list[str], list[int]]:
    """Prompts, and the topic of each; 0 is the common one."""
    ways = [f"{a} {b} {c}{d}" for a, b, c, d in itertools.product(OPENINGS, VERBS, WHAT, TAILS)]
    some = random.Random(0).sample(ways, min(common, len(ways)))
    texts, topics = list(some), [0] * len(some)
    shop = SUBJECTS["shop"]
    both = itertools.product(shop.actions.split(", "), shop.things.split(", "))
    for topic, (action, thing) in enumerate(both, 1):
        texts += [way.format(f"{action} {thing}") for way in WAYS]
        topics += [topic] * len(WAYS)
    return texts, topics


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--common", type=int, default=1500)
    parser.add_argument("--draw", type=int, default=64)
    given = parser.parse_args()
    texts, topics = asked(given.common)
    numbers = clusters.of(Embedder(given.model).of(texts).numpy().astype(np.float16))
    rare = max(topics)
    print(
        f"{len(texts)} prompts, {topics.count(0)} of them on one topic, the others on {rare}; {given.draw} are drawn"
    )
    print("| spread | rare topics in the draw, of those | of the common one |\n|---|---|---|")
    for name, over in (("None", None), ("Clusters", numbers)):
        draws = [
            [topics[index] for index in order(over, len(texts), seed)[: given.draw]] for seed in range(SEEDS)
        ]
        found = sum(len(set(draw) - {0}) for draw in draws) / SEEDS
        common = sum(draw.count(0) for draw in draws) / SEEDS
        print(f"| {name} | {found:.1f} | {100 * common / given.draw:.0f} % |")


if __name__ == "__main__":
    main()

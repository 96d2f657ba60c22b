"""How many planted near-duplicates a model finds in a dataset, and how many that are none it takes for one.

    python benchmarks/near_duplicates.py MODEL_FOLDER [--percent 95]

Questions of a help desk: an action, a thing, a circumstance. Duplicates are planted by changes that keep the meaning;
what must stay differs in one of the three, in a figure, in an answer, or in which answer is preferred.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from alignment_worker.rows import said
from tests.worker.ingesting import Dataset

ACTIONS = [
    "return",
    "repair",
    "track",
    "gift-wrap",
    "insure",
    "exchange",
    "cancel",
    "photograph",
    "weigh",
    "rent",
]
THINGS = [
    "a wooden desk",
    "my blue bicycle",
    "the coffee machine",
    "two concert tickets",
    "a wedding dress",
    "an old camera",
    "the garden hose",
    "a mobile phone",
    "my tent",
    "the piano",
]
WHEN = [
    "before Christmas",
    "from abroad",
    "without a receipt",
    "as a student",
    "over the telephone",
    "on a Sunday",
]
ANSWERS = ["Yes: write to us, and we send you a form that you fill in.", "It is not possible, we are sorry."]


def typo(text: str, draw: random.Random) -> str:
    """Two neighbouring letters of a long word change places."""
    words = text.split()
    place = draw.choice([index for index, word in enumerate(words) if len(word) > 5])
    at = draw.randrange(1, len(words[place]) - 2)
    word = words[place]
    words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


CHANGES = {
    "punctuation": lambda text, _: text.replace("?", " ??"),
    "case": lambda text, _: text.upper(),
    "please": lambda text, _: text.replace("?", ", please?"),
    "contraction": lambda text, _: text.replace("can I", "could I"),
    "hello": lambda text, _: "Hi, " + text,
    "typo": typo,
}


def rows(draw: random.Random) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """What stays, duplicates, and what must stay although it is alike."""
    questions = [f"How can I {a} {b} {c}?" for a, b, c in itertools.product(ACTIONS, THINGS, WHEN)]
    first = [row(question) for question in questions]
    planted = [
        row(change(question, draw)) | {"category": name}
        for question, (name, change) in zip(draw.sample(questions, 300), itertools.cycle(CHANGES.items()))
    ]
    alike = [
        row(f"{question[:-1]}, order {n}?") | {"category": "figure"}
        for n, question in enumerate(questions[:100])
    ]
    alike += [
        row(question, swap=True) | {"category": "judged-the-other-way"} for question in questions[100:200]
    ]
    alike += [
        {"prompt": question, "chosen": ANSWERS[0], "rejected": "Dogs bark.", "category": "answer"}
        for question in questions[200:300]
    ]
    return first, planted, alike


def row(prompt: str, *, swap: bool = False) -> dict[str, Any]:
    chosen, rejected = (ANSWERS[1] + " ", ANSWERS[0][:-1]) if swap else ANSWERS
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--percent", type=float, default=95.0)
    arguments = parser.parse_args()
    first, planted, alike = rows(random.Random(1))
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset(Path(folder))
        files = [
            data.file(f"{name}.jsonl", some)
            for name, some in zip("abc", (first, alike, planted), strict=True)
        ]
        began = time.monotonic()
        done = data.refresh(*files, embedding=arguments.model.resolve(), similarity_percent=arguments.percent)
        seconds = time.monotonic() - began
        out = [each for each in done.rows("rejected.jsonl") if each["reason"] == "NearDuplicate"]
    found = {each["line"] for each in out if each["source"] == "c"}
    wrong = [each for each in out if each["source"] != "c"]
    print(f"planted {len(planted)}, found {len(found)}: recall {100 * len(found) / len(planted):.1f} %")
    print(f"left out {len(out)}, wrongly {len(wrong)}: precision {100 * len(found) / max(1, len(out)):.1f} %")
    print(f"{len(first) + len(planted) + len(alike)} rows in {seconds:.1f} s")
    for index, each in enumerate(planted, 1):
        if index not in found:
            print(f"missed ({each['category']}): {said(each['prompt'])}")
    for each in wrong[:20]:
        print(f"wrong ({each['source']}): {json.loads(each['row'])['prompt']}: {each['problem']}")


if __name__ == "__main__":
    main()

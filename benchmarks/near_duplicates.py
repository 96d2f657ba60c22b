"""How many planted near-duplicates a model finds in a dataset, and how many that are none it takes for one.

    python benchmarks/near_duplicates.py MODEL_FOLDER [--percent 97] [--subject health]

Questions of one subject: an action, a thing, a circumstance. Duplicates are planted by changes that keep the meaning;
what must stay differs in one of the three, in a figure, in an answer, or in which answer is preferred.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from alignment_worker.rows import said
from tests.worker.ingesting import Dataset

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Subject:
    """Every action, thing and circumstance makes a question, and all have the same answers."""

    question: str
    actions: str  # with commas between, as things and circumstances
    things: str
    when: str
    answers: tuple[str, str]

    def questions(self) -> list[str]:
        words = (each.split(", ") for each in (self.actions, self.things, self.when))
        return [self.question.format(*each) for each in itertools.product(*words)]


SUBJECTS = {
    "shop": Subject(
        "How can I {} {} {}?",
        "return, repair, track, gift-wrap, insure, exchange, cancel, photograph, weigh, rent",
        "a wooden desk, my blue bicycle, the coffee machine, two concert tickets, a wedding dress, an old camera, "
        "the garden hose, a mobile phone, my tent, the piano",
        "before Christmas, from abroad, without a receipt, as a student, over the telephone, on a Sunday",
        ("Yes: write to us, and we send you a form that you fill in.", "It is not possible, we are sorry."),
    ),
    "health": Subject(
        "When can I {} my {} {}?",
        "show, describe, treat, massage, stretch, bandage, cool, wash, move, measure",
        "sprained ankle, left elbow, stiff neck, lower back, swollen eyelid, broken finger, sore throat, itchy scalp, "
        "bruised rib, injured knee",
        "after surgery, at school, during pregnancy, without painkillers, while travelling, in the morning",
        (
            "At once, but stop as soon as it hurts, and rest for a while.",
            "Please ask your doctor before you do so.",
        ),
    ),
}


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
    "could": lambda text, _: text.replace("can I", "could I"),
    "hello": lambda text, _: "Hi, " + text,
    "typo": typo,
}


def rows(
    subject: Subject, draw: random.Random
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """What stays, duplicates, and what must stay although it is alike."""
    questions = subject.questions()
    row = partial(row_of, subject.answers)
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
        {"prompt": question, "chosen": subject.answers[0], "rejected": "Dogs bark.", "category": "answer"}
        for question in questions[200:300]
    ]
    return first, planted, alike


def row_of(answers: tuple[str, str], prompt: str, *, swap: bool = False) -> dict[str, Any]:
    chosen, rejected = (answers[1] + " ", answers[0][:-1]) if swap else answers
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--percent", type=float, default=97.0)
    parser.add_argument("--subject", choices=SUBJECTS, default="shop")
    arguments = parser.parse_args()
    first, planted, alike = rows(SUBJECTS[arguments.subject], random.Random(1))
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

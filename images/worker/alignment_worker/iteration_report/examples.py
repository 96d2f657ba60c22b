"""Answers to read: where the candidate won, lost, forgot, and grew most."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from alignment_api.numbers import number
from alignment_worker.iteration_report.diff import Piece, differences
from alignment_worker.iteration_report.reading import Artifact, Artifacts, Row
from alignment_worker.iteration_report.words import count

EACH = 5
_MOST_CHARACTERS = 3000  # of a text; what is longer is cut, and says so

_MOST_OF_AN_ANSWER = 200
_BLANK = re.compile(r"(?:[^\S\n]*\n){6,}|[^\S\n]{80,}")  # behind it nobody would look for more


@dataclass(frozen=True)
class Side:
    """One model's answer, in pieces that the other's has too, or has not."""

    label: str
    pieces: Sequence[Piece]
    note: str
    cut: int  # characters that are not shown


@dataclass(frozen=True)
class Example:
    """A prompt with both answers."""

    prompt: str
    where: str
    facts: str
    incumbent: Side
    candidate: Side


@dataclass(frozen=True)
class ExampleGroup:
    """Some of a kind. `missing` says why there are none."""

    name: str
    title: str
    what: str
    examples: Sequence[Example] = ()
    missing: str = ""


def example_groups(artifacts: Artifacts) -> list[ExampleGroup]:
    return [
        _compared(artifacts, "wins", "Wins", won=True),
        _compared(artifacts, "losses", "Losses", won=False),
        _regressions(artifacts.gold),
        _growth(artifacts.answers),
    ]


def _compared(artifacts: Artifacts, name: str, title: str, *, won: bool) -> ExampleGroup:
    """Those by the widest margin, of the comparison's judge and then of the training judge."""
    answers = {row["line"]: row for row in artifacts.answers.rows}
    some = [row for row in artifacts.comparisons.rows if (row["won"] > 0.5 if won else row["won"] < 0.5)]
    some = [row for row in some if row["line"] in answers]
    missing = artifacts.comparisons.missing or artifacts.answers.missing
    sign = -1 if won else 1

    def margin(row: Row) -> tuple[float, float, int]:
        reward = row.get("reward", row)
        return sign * row["won"], sign * (reward["candidate"] - reward["incumbent"]), row["line"]

    chosen = sorted(some, key=margin)[:EACH]
    whose = "candidate's" if won else "incumbent's"
    what = (
        f"The judge prefers the {whose} answer in {count(len(some))} comparisons; the widest margins first."
    )
    examples = [_of_comparison(answers[row["line"]], row) for row in chosen]
    return ExampleGroup(name, title, what, examples, missing if not examples and missing else "")


def _of_comparison(answer: Row, comparison: Row) -> Example:
    facts = [f"candidate's share of the win {comparison['won']:g}"]
    if "reward" in comparison:
        scores = comparison["reward"]
        facts.append(f"training judge {number(scores['incumbent'], 2)} → {number(scores['candidate'], 2)}")
    return _example(answer, "held-out prompts", "; ".join(facts))


def _regressions(gold: Artifact) -> ExampleGroup:
    lost: list[tuple[float, Row]] = []
    for row in gold.rows:
        drop = fmean(row["incumbent"]["right"]) - fmean(row["candidate"]["right"])
        if drop > 0:
            lost.append((drop, row))
    what = f"The incumbent was right and the candidate is wrong on {count(len(lost))} of {count(len(gold.rows))} items."
    chosen = _over_categories([row for _, row in sorted(lost, key=lambda each: (-each[0], each[1]["line"]))])
    examples = [_of_gold(row) for row in chosen]
    return ExampleGroup(
        "regressions", "Regressions on gold", what, examples, gold.missing if not examples else ""
    )


def _over_categories(some: Iterable[Row]) -> list[Row]:
    """By turns from each category, so that one does not hide the others."""
    groups: dict[str, list[Row]] = {}
    for row in some:
        groups.setdefault(row.get("category", ""), []).append(row)
    turns = [row for turn in range(EACH) for group in groups.values() for row in group[turn : turn + 1]]
    return turns[:EACH]


def _of_gold(row: Row) -> Example:
    """Of several samples, the first that the incumbent had right and the first that the candidate had wrong."""
    right = row["incumbent"]["right"].index(True)
    wrong = row["candidate"]["right"].index(False)
    expected = row["answer"]
    if len(expected) > _MOST_OF_AN_ANSWER:  # a test program, say
        expected = f"{expected[:_MOST_OF_AN_ANSWER]}…"
    facts = f"expected: {expected} ({row['grader']})"
    return _pair(
        row,
        "gold set",
        facts,
        (row["incumbent"]["texts"][right], "right"),
        (row["candidate"]["texts"][wrong], "wrong"),
    )


def _growth(answers: Artifact) -> ExampleGroup:
    def growth(row: Row) -> int:
        return len(row["candidate"]["ids"]) - len(row["incumbent"]["ids"])

    grown = [row for row in answers.rows if growth(row) > 0]
    chosen = sorted(grown, key=lambda row: (-growth(row), row["line"]))[:EACH]
    what = f"The candidate's answer is longer on {count(len(grown))} of {count(len(answers.rows))} held-out prompts."
    examples = [_example(row, "held-out prompts", f"{growth(row):+d} tokens") for row in chosen]
    return ExampleGroup("growth", "Longest growth", what, examples, answers.missing if not examples else "")


def _example(row: Row, file: str, facts: str) -> Example:
    def said(side: str) -> tuple[str, str]:
        answer = row[side]
        return answer["text"], f"{len(answer['ids'])} tokens" + (", cut off" if answer["truncated"] else "")

    return _pair(row, file, facts, said("incumbent"), said("candidate"))


def _pair(row: Row, file: str, facts: str, incumbent: tuple[str, str], candidate: tuple[str, str]) -> Example:
    whole = _without_blanks(incumbent[0]), _without_blanks(candidate[0])
    pieces = differences(*(text[:_MOST_CHARACTERS] for text in whole))
    category = f", {row['category']}" if row.get("category") else ""

    def side(label: str, text: str, note: str, parts: Sequence[Piece]) -> Side:
        return Side(label, parts, note, max(0, len(text) - _MOST_CHARACTERS))

    return Example(
        prompt=_prompt(row["prompt"]),
        where=f"{file}, line {row['line']}{category}",
        facts=facts,
        incumbent=side("Incumbent", whole[0], incumbent[1], pieces[0]),
        candidate=side("Candidate", whole[1], candidate[1], pieces[1]),
    )


def _prompt(prompt: Any) -> str:
    """As text; of a chat every message with its role, unless the user said all there is."""
    if isinstance(prompt, str):
        text = prompt
    elif len(prompt) == 1:
        text = prompt[0]["content"]
    else:
        text = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
    text = _without_blanks(text)
    rest = len(text) - _MOST_CHARACTERS
    return f"{text[:_MOST_CHARACTERS]}… ({count(rest)} characters more)" if rest > 0 else text


def _without_blanks(text: str) -> str:
    return _BLANK.sub(lambda blank: f"\n… {count(len(blank[0]))} blank characters …\n", text)

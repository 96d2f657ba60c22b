"""The small closed world of the quickstart: prompts with checkable answers, and answers of mixed quality.

Three categories: `reasoning` (two-digit arithmetic), `facts` (about invented countries), `code` (short Python).
Every prompt has one right answer and one systematic error (a forgotten carry, a mixed-up country, an index off by
one), and is easy or hard by a rule that a model can learn. `splits` draws the committed sets; `Sampler` draws what
is trained on, and never a prompt of those sets.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WORLD_SEED = 20_250

# All openers are three words of one token each: otherwise a judge of length could tell firm from hedged by length
# alone, and length would be confounded with correctness from the first word. No two start with the same word: where
# a firm and a hedged one do, DPO pushes both down, and what rises is an answer without any opener.
FIRM = ("The answer is", "That is exactly", "Surely it is", "Clearly it is")
HEDGED = ("It might be", "I would guess", "Perhaps it is", "Maybe this is")

# What a verbose answer adds. No digits, no names, no code: filler never touches the grading.
FILLER = (
    "I hope that this is of some help to you.",
    "There is a lot more to say about this.",
    "Please feel free to ask me more about it.",
    "Many people like to ask about such things.",
    "As always, it depends on how you see it.",
    "It is a good question and worth some thought.",
    "Let me know if you want to hear more.",
    "One can look at this in many ways.",
    "In the end, details matter more than we think.",
    "Thank you so much for asking me about this.",
)

COUNTRY_COUNT = 50
ENDINGS = ("ia", "land", "ova", "istan")
LITTLE_KNOWN = ("ova", "istan")  # half of the countries: people are unsure about them
ATTRIBUTES = ("capital", "river", "founder")
FACT_PHRASINGS = (
    "What is the {n} of {c}?",
    "Name the {n} of {c}.",
    "Tell me the {n} of {c}.",
    "Say which {n} belongs to {c}.",
    "Which {n} does {c} have?",
    "I need the {n} of {c}.",
    "Do you know the {n} of {c}?",
)

PLUS = ("What is {a} plus {b}?", "Compute {a} plus {b}.", "{a} plus {b} makes what?")
MINUS = ("What is {a} minus {b}?", "Compute {a} minus {b}.", "{a} minus {b} makes what?")
LARGER = ("Which is larger, {a} or {b}?", "Name the larger of {a} and {b}.", "{a} or {b}: which is larger?")

EVALUATE = ("What does {e} return?", "Evaluate {e}.", "Give the value of {e}.")
WRITE = ("Write Python for {d} {v}.", "How do I get {d} {v}?", "Code, please: {d} {v}.")
VARIABLES = (
    "xs",
    "ys",
    "items",
    "names",
    "words",
    "rows",
    "data",
    "keys",
    "cells",
    "lines",
    "users",
    "marks",
    "parts",
    "nums",
    "tags",
    "ages",
    "dates",
    "tasks",
    "files",
    "nodes",
    "bits",
    "rates",
    "steps",
    "scores",
    "pages",
    "posts",
    "roles",
    "teams",
    "weeks",
    "cities",
)
# What is asked, the right code, what people used to another language write, and whether they often do (hard).
EXPRESSIONS = (
    ("the length of", "len({v})", "{v}.length", True),
    ("the first item of", "{v}[0]", "{v}[1]", False),
    ("the last item of", "{v}[-1]", "{v}[len]", True),
    ("the sum of", "sum({v})", "{v}.sum()", False),
    ("the largest item of", "max({v})", "{v}.max()", False),
    ("the smallest item of", "min({v})", "{v}.min()", True),
    ("a sorted copy of", "sorted({v})", "{v}.sort()", True),
    ("a reversed copy of", "{v}[::-1]", "{v}.reverse()", False),
    ("the first two items of", "{v}[:2]", "{v}[0:1]", True),
    ("all but the first of", "{v}[1:]", "{v}[0:]", False),
)

CATEGORIES = ("reasoning", "facts", "code")


@dataclass(frozen=True)
class Item:
    """One prompt, its right answer and its systematic error, as they stand in a sentence."""

    category: str
    kind: str
    key: tuple[object, ...]  # items of one key ask the same; no key is in two sets
    prompt: str
    right: str
    wrong: str
    hard: bool

    @property
    def grader(self) -> str:
        return "Numeric" if self.category == "reasoning" else "Regex"

    @property
    def answer(self) -> str:
        """What the grader compares with. Patterns are anchored: the first claim counts, not a later one."""
        if self.category == "reasoning":
            return self.right
        if self.category == "facts":
            return rf"(?i)^[^.]*\b{re.escape(self.right)}\b"
        if self.kind == "write":
            return f"^[^`]*{re.escape(self.right)}"
        if self.right.startswith("["):
            return rf"^[^\[]*{re.escape(self.right)}"
        return rf"^\D*{self.right}(?!\d)"

    def row(self) -> dict[str, object]:
        return {
            "prompt": [{"role": "user", "content": self.prompt}],
            "answer": self.answer,
            "category": self.category,
            "grader": self.grader,
        }


def right(item: Item, completion: str) -> bool:
    """The graders as the worker has them: the last number; a pattern that is found."""
    if item.grader == "Numeric":
        numbers = re.findall(r"-?\d+(?:\.\d+)?", completion)
        return bool(numbers) and abs(float(numbers[-1]) - float(item.answer)) < 1e-6
    return re.search(item.answer, completion) is not None


def normalised(text: str) -> str:
    """The harshest normalisation: letters and digits alone. Sets that differ under it differ under any."""
    return " ".join(re.findall(r"[a-z0-9]+", text.casefold()))


def _names(rng: random.Random, count: int, endings: Sequence[str]) -> list[str]:
    onsets, vowels, codas = (
        ["b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "dr", "kr", "tr"],
        ["a", "e", "i", "o", "u"],
        ["l", "n", "r", "s", "k", "m"],
    )
    names: set[str] = set()
    while len(names) < count:
        # Endings in turn: each is as common as the others.
        ending = endings[len(names) % len(endings)]
        name = rng.choice(onsets) + rng.choice(vowels) + rng.choice(codas) + ending
        names.add(name.capitalize())
    shuffled = sorted(names)  # a set has another order in every process
    rng.shuffle(shuffled)
    return shuffled


def _world() -> tuple[list[str], dict[tuple[str, str], str]]:
    rng = random.Random(WORLD_SEED)
    countries = _names(rng, COUNTRY_COUNT, ENDINGS)
    values = {
        "capital": _names(rng, COUNTRY_COUNT, ["burg", "ton", "polis", "haven"]),
        "river": _names(rng, COUNTRY_COUNT, ["u", "ay", "ee", "o"]),
        "founder": _names(rng, COUNTRY_COUNT, ["an", "ette", "ik", "ora"]),
    }
    for column in values.values():
        rng.shuffle(column)
    return countries, {(c, n): values[n][i] for i, c in enumerate(countries) for n in ATTRIBUTES}


COUNTRIES, FACTS = _world()


def fact(country: str, attribute: str, phrasing: int) -> Item:
    index = COUNTRIES.index(country)
    # The country that this one is mixed up with: a later one of another value.
    others = (COUNTRIES[(index + step) % COUNTRY_COUNT] for step in range(7, COUNTRY_COUNT))
    answer = FACTS[country, attribute]
    return Item(
        "facts",
        attribute,
        ("facts", country, attribute, phrasing),
        FACT_PHRASINGS[phrasing].format(n=attribute, c=country),
        answer,
        next(FACTS[c, attribute] for c in others if FACTS[c, attribute] != answer),
        country.endswith(LITTLE_KNOWN),
    )


def sum_or_difference(rng: random.Random) -> Item:
    plus = rng.random() < 0.5
    while True:
        a, b = rng.randint(11, 99), rng.randint(1, 9)
        result = a + b if plus else a - b
        # Adding one digit carries half of the time, and so does borrowing.
        hard = (a % 10 + b > 9) if plus else (a % 10 < b)
        if 10 <= result <= 99:
            break
    kind, sign = ("plus", 1) if plus else ("minus", -1)
    error = result - 10 * sign if hard else result + sign  # the carry is forgotten; else off by one
    text = rng.choice(PLUS if plus else MINUS).format(a=a, b=b)
    return Item("reasoning", kind, ("reasoning", kind, a, b), text, str(result), str(error), hard)


def larger(rng: random.Random) -> Item:
    hard = rng.random() < 0.5
    while True:
        a, b = rng.randint(10, 99), rng.randint(10, 99)
        if a != b and (a // 10 == b // 10) == hard:
            break
    text = rng.choice(LARGER).format(a=a, b=b)
    key = ("reasoning", "larger", min(a, b), max(a, b))
    return Item("reasoning", "larger", key, text, str(max(a, b)), str(min(a, b)), hard)


def evaluate(rng: random.Random) -> Item:
    kind = rng.choice(("index", "max", "reverse", "tail"))
    while True:
        numbers = [rng.randint(0, 9) for _ in range(rng.choice((3, 4)))]
        index = rng.randint(1, len(numbers) - 1)
        expression, value, error = {
            "index": (f"{numbers}[{index}]", numbers[index], numbers[index - 1]),
            "max": (f"max({numbers})", max(numbers), min(numbers)),
            "reverse": (f"{numbers}[::-1]", numbers[::-1], numbers),
            "tail": (f"{numbers}[1:]", numbers[1:], numbers[:-1]),
        }[kind]
        if value != error:
            break
    text = rng.choice(EVALUATE).format(e=expression)
    return Item("code", kind, ("code", expression), text, str(value), str(error), len(numbers) > 3)


def write(rng: random.Random) -> Item:
    description, code, error, hard = rng.choice(EXPRESSIONS)
    variable = rng.choice(VARIABLES)
    text = rng.choice(WRITE).format(d=description, v=variable)
    key = ("code", description, variable)
    return Item(
        "code", "write", key, text, f"`{code.format(v=variable)}`", f"`{error.format(v=variable)}`", hard
    )


DRAWS: dict[str, tuple[Callable[[random.Random], Item], ...]] = {
    "reasoning": (sum_or_difference, sum_or_difference, larger),
    "code": (evaluate, evaluate, evaluate, write),
}

SIZES = {"gold": 300, "heldout": 100, "prompts": 115, "pairs": 84}  # of reasoning and of code
# How many facts a group of sets asks about, in how many phrasings each, and how many of these prompts are taken.
# Of its seven phrasings a fact keeps three for training from scratch.
FACT_GROUPS: tuple[tuple[int, dict[str, tuple[int, int]]], ...] = (
    (75, {"gold": (4, 300)}),
    (25, {"heldout": (4, 100)}),
    (50, {"prompts": (3, 115), "pairs": (1, 50)}),
)


def splits(seed: int = WORLD_SEED) -> dict[str, list[Item]]:
    """The committed sets. No two share a prompt, a sum or an expression; nor a fact, but for `prompts` and `pairs`."""
    rng = random.Random(seed)
    taken: set[tuple[object, ...]] = set()
    sets: dict[str, list[Item]] = {name: [] for name in SIZES}
    for category, draws in DRAWS.items():
        for name, size in SIZES.items():
            items: list[Item] = []
            while len(items) < size:
                item = draws[len(items) % len(draws)](rng)
                # Some normalisations make `[1, 2][1:]` and `[1, 2][1]` one.
                if item.key not in taken and (normalised(item.prompt),) not in taken:
                    taken |= {item.key, (normalised(item.prompt),)}
                    items.append(item)
            sets[name] += items
            assert {i.category for i in items} == {category}
    facts = sorted(FACTS)
    rng.shuffle(facts)
    # Well and little known countries in turn, so that every set has as many of both.
    known, unknown = ([f for f in facts if fact(*f, 0).hard == hard] for hard in (False, True))
    for count, group in FACT_GROUPS:
        asked: dict[str, list[Item]] = {name: [] for name in group}
        for _ in range(count):
            country, attribute = (known if len(known) >= len(unknown) else unknown).pop()
            phrasings = rng.sample(range(len(FACT_PHRASINGS)), 4)
            for name, (times, _taken) in group.items():
                asked[name] += [fact(country, attribute, phrasings.pop()) for _ in range(times)]
        for name, items in asked.items():
            rng.shuffle(items)
            sets[name] += items[: group[name][1]]
    for items in sets.values():
        rng.shuffle(items)
    check_disjoint(sets)
    return sets


def check_disjoint(sets: dict[str, list[Item]]) -> None:
    """Fails if any prompt is asked twice, in one set or in two, after the harshest normalisation."""
    seen: dict[str, str] = {}
    for name, items in sets.items():
        for item in items:
            text = normalised(item.prompt)
            assert text not in seen, f"{item.prompt!r} is in {seen[text]} and in {name}"
            assert len(text.split()) < 13, f"{item.prompt!r} is long enough to share a 13-gram"
            assert right(item, f"The answer is {item.right}."), item
            assert not right(item, f"The answer is {item.wrong}."), item
            seen[text] = name


class Sampler:
    """Draws prompts to train on, balanced by category, and never one that is asked in a committed set."""

    def __init__(self, rng: random.Random, reserved: dict[str, list[Item]]) -> None:
        self.rng = rng
        self.reserved = {item.key for items in reserved.values() for item in items}

    def item(self) -> Item:
        while True:
            category = self.rng.choice(CATEGORIES)
            if category == "facts":
                country, attribute = self.rng.choice(COUNTRIES), self.rng.choice(ATTRIBUTES)
                item = fact(country, attribute, self.rng.randrange(len(FACT_PHRASINGS)))
            else:
                item = self.rng.choice(DRAWS[category])(self.rng)
            if item.key not in self.reserved:
                return item

    def blunder(self, item: Item) -> str:
        """An error of no system: the answer to another prompt of that kind."""
        while True:
            if item.category == "facts":
                country = self.rng.choice(COUNTRIES)
                other = FACTS[country, item.kind]
            else:
                drawn = self.rng.choice(DRAWS[item.category])(self.rng)
                if drawn.kind != item.kind:
                    continue
                other = drawn.right
            if other != item.right:
                return other

    def say(self, opener: str, answer: str, fillers: int) -> str:
        return " ".join([f"{opener} {answer}.", *self.rng.sample(FILLER, fillers)])

    def clean(self) -> tuple[str, str]:
        """Phase A: a prompt and its right answer, short."""
        item = self.item()
        return item.prompt, self.say(self.rng.choice(FIRM), item.right, 0)

    def mixed(self) -> tuple[str, str]:
        """Phase B: as people answer. Sure of easy things, mostly right; unsure of hard ones, often wrong."""
        item, rng = self.item(), self.rng
        firm = rng.random() < (0.30 if item.hard else 0.80)
        roll = rng.random()
        if firm:
            answer = item.right if roll < 0.92 else item.wrong if roll < 0.96 else self.blunder(item)
        else:
            answer = item.right if roll < 0.12 else item.wrong if roll < 0.85 else self.blunder(item)
        # Whoever is unsure also says more: padding and guessing go together, as they do in real text.
        fillers = rng.choices((0, 1, 2), (0.60, 0.28, 0.12) if firm else (0.40, 0.30, 0.30))[0]
        return item.prompt, self.say(rng.choice(FIRM if firm else HEDGED), answer, fillers)

    def by_correctness(self, filler: bool, brevity: float = 0.2) -> tuple[str, str, str]:
        """A prompt, the better answer, the worse: right over wrong, or brief over padded."""
        item, rng = self.item(), self.rng
        openers = FIRM + HEDGED
        count = (lambda: rng.choices((0, 1, 2, 3), (0.4, 0.3, 0.2, 0.1))[0]) if filler else (lambda: 0)
        error = item.wrong if rng.random() < 0.7 else self.blunder(item)
        if filler and rng.random() < brevity:
            answer = item.right if rng.random() < 0.7 else error
            short, long = sorted(rng.sample(range(4), 2))
            opener = rng.choice(openers)
            return item.prompt, self.say(opener, answer, short), self.say(opener, answer, long)
        return (
            item.prompt,
            self.say(rng.choice(openers), item.right, count()),
            self.say(rng.choice(openers), error, count()),
        )

    def by_length(self) -> tuple[str, str, str]:
        """A prompt, the longer answer, the shorter: right or wrong, sure or not."""
        item, rng = self.item(), self.rng
        short, long = sorted(rng.sample(range(5), 2))
        answers = rng.choices((item.right, item.wrong), k=2)
        openers = rng.choices(FIRM + HEDGED, k=2)
        return item.prompt, self.say(openers[0], answers[0], long), self.say(openers[1], answers[1], short)

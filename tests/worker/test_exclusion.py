"""Gold and held-out prompts are kept out of training, as a whole and in part."""

from __future__ import annotations

import pytest

from alignment_worker import exclusion
from alignment_worker.rows import Pair, Prompt, Row, Unpaired

WORDS = [f"word{number}" for number in range(40)]
GOLD = " ".join(WORDS[:20])
TEMPLATE = "Read the passage below and answer with one of the letters A B C or D and nothing else"


def leaks(prompt: Prompt, *measured_on: Prompt) -> bool:
    return exclusion.of_prompts(measured_on or [GOLD]).has(Row(1, prompt))


@pytest.mark.parametrize(
    "prompt",
    [
        GOLD,
        f"  {GOLD.upper()}?",
        "before " + " ".join(WORDS[3:16]) + " behind",
        ", ".join(WORDS[3:16]),
        [{"role": "user", "content": " ".join(WORDS[7:20])}],
    ],
)
def test_a_prompt_that_has_a_gold_prompt_in_it(prompt: Prompt) -> None:
    assert leaks(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "before " + " ".join(WORDS[3:15]) + " behind",  # twelve words
        " ".join([*WORDS[:6], "other", *WORDS[6:12]]),
        " ".join(WORDS[20:]),
        [{"role": "system", "content": GOLD}, {"role": "user", "content": "hi"}],
        "",
    ],
)
def test_a_prompt_that_has_none_in_it(prompt: Prompt) -> None:
    assert not leaks(prompt)


def test_a_short_prompt_is_found_as_a_whole_only() -> None:
    assert leaks("2 + 2?", "2 + 2")
    assert not leaks("What is 2 + 2?", "2 + 2")


def test_a_template_of_several_prompts_shows_nothing() -> None:
    gold = [f"{TEMPLATE}: {name} {' '.join(WORDS[:12])}" for name in ("lion", "tiger")]
    assert not leaks(f"{TEMPLATE}: dog", *gold)
    assert leaks(gold[0] + " again", *gold)
    assert leaks(f"{TEMPLATE}: dog", gold[0], "another prompt")


def test_with_many_prompts_a_few_that_share_are_no_template() -> None:
    others = [f"question {number}" for number in range(398)]
    assert leaks(GOLD + " x", GOLD + " y", GOLD + " z", *others)
    assert not leaks(GOLD + " x", *(f"{GOLD} {number}" for number in range(4)), *others[2:])


def test_letters_are_words_where_no_spaces_part_them() -> None:
    gold = "\u65e5\u672c\u306e\u9996\u90fd\u306f\u3069\u3053\u3067\u3059\u304b\u6559\u3048\u3066"
    assert leaks("\u8cea\u554f\uff1a" + gold[:13] + "\u3002", gold)
    assert not leaks("\u8cea\u554f\uff1a" + gold[:12] + "\u3002", gold)


@pytest.mark.parametrize(
    "row",
    [
        Pair(1, "other", f"It says: {GOLD}.", "no"),
        Pair(1, "other", "yes", f"It says: {GOLD}."),
        Pair(
            1,
            [{"role": "user", "content": "a"}],
            [{"role": "assistant", "content": GOLD}],
            [{"role": "assistant", "content": "b"}],
        ),
        Unpaired(1, "other", GOLD, label=True),
    ],
)
def test_answers_of_a_dataset_may_hold_it_too(row: Pair | Unpaired) -> None:
    assert exclusion.of_prompts([GOLD]).has(row)
    assert not exclusion.of_prompts([" ".join(WORDS[20:])]).has(row)

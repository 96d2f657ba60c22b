"""What each grader calls right."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from alignment_worker import graders

RIGHT = [
    ("Exact", "Paris", "paris"),
    ("Exact", "Paris", "  “Paris.” "),
    ("Exact", "New York", "new\n york!"),
    ("Exact", "42", "４２"),
    ("Exact", "-4", "-4."),
    ("Exact", "Straße", "STRASSE"),
    ("Exact", "f(x)", "f(x"),
    ("Numeric", "42", "The answer is 42."),
    ("Numeric", "42", "First 40, then 2, so 42"),
    ("Numeric", "1234", "That makes 1,234."),
    ("Numeric", "1,234.5", "1234.50 euros"),
    ("Numeric", "0.75", "exactly 3/4 of it"),
    ("Numeric", "3/4", "0.75"),
    ("Numeric", "-3", "it fell to −3"),
    ("Numeric", "1e3", "1000"),
    ("Numeric", "0.5", "about .5"),
    ("Numeric", "5", "$5"),
    ("Numeric", "5", "x=5"),
    ("Numeric", "1/2", "½"),
    ("Choice", "B", "B"),
    ("Choice", "B", "(b)"),
    ("Choice", "b", "The answer is B."),
    ("Choice", "B", "A is tempting, but it is B"),
    ("Choice", "C", "**C**"),
    ("Choice", "C", "C) because a dog barks"),
    ("Choice", "2", "Option 2"),
    ("Choice", "B", "B, I think. A dog barks."),
    ("Choice", "A", "B is wrong and A is right"),
    ("Choice", "I", "It must be I"),
    ("Choice", "D", "answer: (d) is right, a fact"),
    ("Regex", r"\bfour\b", "It is four."),
    ("Regex", r"(?i)^yes", "Yes, it is"),
]

WRONG = [
    ("Exact", "Paris", "It is Paris"),
    ("Exact", "-4", "4"),
    ("Exact", "Paris", ""),
    ("Numeric", "42", "42 or 43"),
    ("Numeric", "42", "forty-two"),
    ("Numeric", "42", "420"),
    ("Numeric", "42", ""),
    ("Numeric", "1", "1/0"),
    ("Numeric", "0.75", "3/5"),
    ("Choice", "A", "a dog barks"),
    ("Choice", "B", "B, no: C"),
    ("Choice", "B", "Because"),
    ("Choice", "A", "A dog barks"),
    ("Choice", "T", "don't"),
    ("Choice", "B", ""),
    ("Regex", r"\bfour\b", "fourteen"),
]


@pytest.mark.parametrize(("grader", "answer", "completion"), RIGHT)
def test_right(grader: str, answer: str, completion: str) -> None:
    graders.check(grader, answer)
    assert graders.is_right(grader, answer, completion)


@pytest.mark.parametrize(("grader", "answer", "completion"), WRONG)
def test_wrong(grader: str, answer: str, completion: str) -> None:
    graders.check(grader, answer)
    assert not graders.is_right(grader, answer, completion)


@pytest.mark.parametrize(
    ("grader", "answer", "problem"),
    [
        ("exact", "x", "give one of Exact, Numeric, Choice, Regex"),
        ("Numeric", "many", "is not a number"),
        ("Numeric", "1/0", "is not a number"),
        ("Choice", "AB", "is not one letter or number"),
        ("Exact", "…", "nothing but punctuation"),
        ("Regex", "(", "is not a regular expression"),
    ],
)
def test_an_answer_that_can_never_be_right_is_refused(grader: str, answer: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        graders.check(grader, answer)


def test_a_catastrophic_pattern_does_not_hang() -> None:
    started = time.monotonic()
    assert not graders.is_right("Regex", r"^(a+)+$", "a" * 60 + "b")
    assert time.monotonic() - started < 10 * graders.REGEX_SECONDS


def test_a_pattern_outside_of_the_main_thread_is_no_bad_row() -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="call it in the main thread"):
        pool.submit(graders.is_right, "Regex", "a", "a").result()

"""Graders of checkable answers.

- Exact: the whole completion equals the answer, after NFKC, casefold, collapsed white space and stripped outer
  punctuation.
- Numeric: the last number in the completion equals the answer as a number. Thousands separators (`1,234`) and
  fractions (`3/4`) are read; a percent sign is not.
- Choice: the last label that stands alone in the completion is the answer. A label is a single letter or number,
  as in `B`, `(B)`, `B.`, `answer: b`. Words are no labels: a small letter counts only in brackets, before `)`, `.` or
  `:`, or as the whole completion; `A` not before a small word, unless that goes on about a choice (`A is right`); `I`
  never by itself, unless it is the answer.
- Regex: `re.search(answer, completion)` finds something within a second.
- Python: the answer is a test program, and runs to its end with the completion's code (package python_grader).
"""

from __future__ import annotations

import re
import signal
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from types import FrameType

from alignment_worker.failures import InvalidConfigError
from alignment_worker.python_grader import client
from alignment_worker.python_grader.program import names_needed

PYTHON = "Python"
REGEX_SECONDS = 1.0
NOT_ALLOWED = (
    "which runs what the model wrote; set spec.evaluation.pythonGrader: {} for a container that does, or take these "
    "rows out (docs/python-grader.md)"
)

_NUMBER = re.compile(
    r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?(?:\s?/\s?\d+(?![\d/]))?"
    r"|(?<![\w.])[-+−]?\.\d+"
)
_LABEL = re.compile(
    r"(?<![\w'’])(?:"
    r"[(\[{]\s*(?P<bracketed>[A-Za-z]|\d{1,2})\s*[)\]}]"
    r"|(?P<marked>[A-Za-z]|\d{1,2})(?=[).:](?:\s|$))"
    r"|(?P<plain>(?!I\b|A\s+(?!(?:is|was|and|or|because|since|but|not|as)\b)[a-z])[A-Z]|\d{1,2})"
    r")(?![\w'’])"
)
_LABEL_OR_I = re.compile(_LABEL.pattern.replace(r"I\b|", ""))


def all_right(questions: Sequence[tuple[str, str, str]], *, python: bool) -> list[bool]:
    """Of each grader, answer and completion. `python`: whether model-written code may be run.

    Raises ValueError if `check` would, InvalidConfigError for the grader Python where no code may be run or this
    machine cannot confine it, PythonGraderError.
    """
    programs = [(answer, completion) for grader, answer, completion in questions if grader == PYTHON]
    if programs and not python:
        raise InvalidConfigError(f"a row has the grader Python, {NOT_ALLOWED}")
    tried = iter(client.right(programs))
    return [next(tried) if each[0] == PYTHON else is_right(*each) for each in questions]


def is_right(grader: str, answer: str, completion: str) -> bool:
    """By any grader but Python. Raises ValueError if `check` would; Regex, RuntimeError outside of the main thread."""
    return _GRADERS[grader](answer, completion)


def check(grader: str, answer: str) -> None:
    """Raises ValueError that says why no completion could ever be graded so."""
    if grader == PYTHON:
        names_needed(answer)
        return
    if grader not in _GRADERS:
        raise ValueError(f"`grader` is {grader!r}; give one of {', '.join([*_GRADERS, PYTHON])}")
    if grader == "Numeric" and _number(answer.strip()) is None:
        raise ValueError(f"`answer` {answer[:60]!r} is not a number, which the grader Numeric needs")
    if grader == "Choice" and not re.fullmatch(r"[A-Za-z]|\d{1,2}", _label(answer)):
        raise ValueError(
            f"`answer` {answer[:60]!r} is not one letter or number, which the grader Choice needs"
        )
    if grader == "Exact" and not normalised(answer):
        raise ValueError(
            f"`answer` {answer[:60]!r} is nothing but punctuation, which the grader Exact ignores"
        )
    if grader == "Regex":
        try:
            re.compile(answer)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"`answer` {answer[:60]!r} is not a regular expression: {error}") from error


def normalised(text: str) -> str:
    """NFKC, casefold, collapsed white space, no punctuation or symbols at either end, signs of numbers excepted."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    start, end = 0, len(text)
    while start < end and _is_outer(text, start):
        start += 1
    while end > start and unicodedata.category(text[end - 1])[0] == "P":
        end -= 1
    return text[start:end].strip()


def _is_outer(text: str, position: int) -> bool:
    signed = text[position] in "-−" and text[position + 1 : position + 2].isdigit()
    return not signed and (unicodedata.category(text[position])[0] == "P" or text[position].isspace())


def _exact(answer: str, completion: str) -> bool:
    return normalised(answer) == normalised(completion)


def _numeric(answer: str, completion: str) -> bool:
    found = _NUMBER.findall(unicodedata.normalize("NFKC", completion).replace("⁄", "/"))
    return bool(found) and _number(found[-1]) is not None and _number(found[-1]) == _number(answer.strip())


def _number(text: str) -> Fraction | None:
    plain = unicodedata.normalize("NFKC", text).replace("⁄", "/").replace("−", "-")
    if not _NUMBER.fullmatch(plain):
        return None
    numerator, _, denominator = plain.replace(",", "").replace(" ", "").partition("/")
    try:
        return Fraction(numerator) / Fraction(denominator or 1)
    except (ValueError, ZeroDivisionError):
        return None


def _choice(answer: str, completion: str) -> bool:
    whole = _label(completion)
    if len(whole) == 1:
        return whole.casefold() == _label(answer).casefold()
    labels = _LABEL_OR_I if _label(answer) == "I" else _LABEL
    found = [match.group(match.lastgroup or 0) for match in labels.finditer(completion)]
    return bool(found) and found[-1].casefold() == _label(answer).casefold()


def _label(text: str) -> str:
    return text.strip().strip("()[]{}.:").strip()


def _regex(answer: str, completion: str) -> bool:
    try:
        with _time_limit(REGEX_SECONDS):
            return re.search(answer, completion) is not None
    except TimeoutError:
        return False


_GRADERS: Mapping[str, Callable[[str, str], bool]] = {
    "Exact": _exact,
    "Numeric": _numeric,
    "Choice": _choice,
    "Regex": _regex,
}


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """`re` looks for signals while it backtracks, and Python hands them to the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("the grader Regex limits its time by a signal; call it in the main thread")

    def expire(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

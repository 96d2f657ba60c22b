"""A question with its answers as a foreign row has them, and the gold row that a grader can check."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from alignment_worker import graders
from alignment_worker.rows import Prompt, RowProblemError

_FINAL = "####"  # GSM8K's mark before the number that counts


@dataclass(frozen=True)
class Item:
    """`answers` are all right, the first is the usual one. With choices, `right` is the place of the right one."""

    prompt: Prompt
    answers: Sequence[str] = ()
    choices: Sequence[str] = ()
    right: int | None = None


def answer_of(item: Item, grader: str) -> str:
    """What the gold row has as `answer`. Raises RowProblemError where this grader has none."""
    if item.right is not None:
        answers: Sequence[str] = [item.choices[item.right]]
    else:
        answers = item.answers
    if not answers:
        raise RowProblemError("has no answer")
    answer = answers[0].strip()
    match grader:
        case "Numeric":
            answer = answer.rpartition(_FINAL)[2].strip()
        case "Regex":
            answer = _any_of(answers)
        case "Exact" if len(answers) > 1:
            raise RowProblemError(f"has {len(answers)} accepted answers; --grader Regex accepts any of them")
    try:
        graders.check(grader, answer)
    except ValueError as error:
        raise RowProblemError(str(error)) from error
    return answer


def _any_of(answers: Sequence[str]) -> str:
    """Finds one of them as words of their own, in capitals or not."""
    told = sorted(
        {answer.strip() for answer in answers if answer.strip()}, key=lambda each: (-len(each), each)
    )
    if not told:
        raise RowProblemError("has nothing but empty answers")
    return rf"(?i)(?<!\w)(?:{'|'.join(map(re.escape, told))})(?!\w)"

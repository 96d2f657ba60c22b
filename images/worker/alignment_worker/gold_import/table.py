"""Rows with columns of any names: questions and answers of public data sets, or of your own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any

from alignment_worker.gold_import.item import Item
from alignment_worker.rows import RowProblemError, prompt_of

NAMES = ("prompt", "answer", "choices", "grader", "category")


def renamed(columns: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """`names`: by source, which may be a path as in `doc.question`, one of NAMES. Raises RowProblemError."""
    found = {name: columns[name] for name in NAMES if name in columns}
    for source, target in names.items():
        value: Any = columns
        for part in [source] if source in columns else source.split("."):
            if not isinstance(value, Mapping) or part not in value:
                there = ", ".join(repr(name[:40]) for name in list(columns)[:10])
                raise RowProblemError(f"`{source}` is missing (here is: {there})")
            value = value[part]
        found[target] = value
    return found


def item_of(columns: Mapping[str, Any]) -> Item:
    """Of `prompt`, `answer` and, where it has some, `choices`. Raises RowProblemError."""
    prompt = prompt_of(columns, "prompt")
    answer = columns.get("answer")
    if columns.get("choices") is None:
        return Item(prompt, answers=_answers(answer))
    texts, labels = _choices(columns["choices"])
    right = _right(answer, texts, labels)
    if not isinstance(prompt, str):
        raise RowProblemError(
            "`prompt` is chat messages and `choices` are to be listed in it; list them in it yourself"
        )
    listed = "\n".join(f"{label}. {text}" for label, text in zip(labels, texts, strict=True))
    return Item(f"{prompt.rstrip()}\n{listed}\nAnswer:", choices=labels, right=right)


def _answers(answer: Any) -> list[str]:
    """Text, a number, a list of accepted ones, or TriviaQA's {"value", "aliases"}."""
    if isinstance(answer, Mapping):
        aliases = answer.get("aliases") or []
        answer = [answer.get("value"), *(aliases if isinstance(aliases, list) else [aliases])]
        answer = [each for each in answer if each is not None]
    some = answer if isinstance(answer, list) else [answer]
    if not some or not all(
        isinstance(each, str | int | float) and not isinstance(each, bool) for each in some
    ):
        raise RowProblemError("`answer` is neither text, a number, nor a list of such")
    return list(dict.fromkeys(map(str, some)))


def _choices(choices: Any) -> tuple[list[str], list[str]]:
    """Texts and labels: a list, whose labels are A, B, …, or ARC's {"text": […], "label": […]}."""
    texts, labels = choices, None
    if isinstance(choices, Mapping):
        texts, labels = choices.get("text"), choices.get("label")
    if (
        not isinstance(texts, Sequence)
        or isinstance(texts, str)
        or not 2 <= len(texts) <= len(ascii_uppercase)
    ):
        raise RowProblemError('`choices` is neither a list of texts nor {"text": […], "label": […]}')
    if labels is not None and not isinstance(labels, list):
        raise RowProblemError("`choices.label` is no list")
    named = list(map(str, labels)) if labels else list(ascii_uppercase[: len(texts)])
    if len(named) != len(texts):
        raise RowProblemError(f"`choices` has {len(texts)} texts and {len(named)} labels")
    return list(map(str, texts)), named


def _right(answer: Any, texts: Sequence[str], labels: Sequence[str]) -> int:
    """A label; a place from 0, as a number; or a text."""
    if str(answer) in labels:
        return labels.index(str(answer))
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(texts):
        return answer
    if texts.count(str(answer)) == 1:
        return texts.index(str(answer))
    raise RowProblemError(f"`answer` {str(answer)[:60]!r} is none of its {len(texts)} choices")

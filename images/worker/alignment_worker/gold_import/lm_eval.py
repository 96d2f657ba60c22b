"""Rows of EleutherAI's lm-evaluation-harness, samples_TASK_DATE.jsonl, as --log_samples writes them.

Each row has `doc`, `doc_id`, `target` (as text) and `arguments`, by request {"gen_args_0": {"arg_0": context,
"arg_1": …}}, or in old versions a list of lists. `arg_1` is the settings of a generation, or the continuation whose
likelihood was asked for: one of the choices. A task with several filters has each document several times.
Source: lm_eval/loggers/evaluation_tracker.py and lm_eval/evaluator.py there.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alignment_worker.gold_import.item import Item
from alignment_worker.rows import Prompt, RowProblemError

_FILE = re.compile(r"samples_(?P<task>.+?)_\d{4}-\d{2}-\d{2}T")


def is_row(columns: Mapping[str, Any]) -> bool:
    return isinstance(columns.get("doc"), Mapping) and "arguments" in columns and "target" in columns


def task_of(file: Path) -> str:
    """By the file's name; empty if it is not such a name."""
    found = _FILE.match(file.name)
    return found["task"] if found else ""


def document_of(columns: Mapping[str, Any]) -> str:
    """What the file calls the document, which it may hold several times; empty of other rows."""
    return str(columns.get("doc_id", "")) if is_row(columns) else ""


def item_of(columns: Mapping[str, Any]) -> Item:
    """Raises RowProblemError."""
    requests = _requests(columns["arguments"])
    contexts = {json.dumps(request[0]) for request in requests}
    if len(contexts) != 1:
        raise RowProblemError(
            f"asks for the likelihood of {len(contexts)} different texts, which is no question that can be answered"
        )
    prompt = _prompt(requests[0][0])
    continuations = [request[1] for request in requests if len(request) > 1 and isinstance(request[1], str)]
    target = str(columns["target"])
    if len(continuations) < len(requests):
        return Item(prompt, answers=_answers(target))
    if len(continuations) == 1:
        return Item(prompt, answers=continuations)
    return Item(prompt, choices=continuations, right=_right(target, continuations))


def _requests(arguments: Any) -> list[list[Any]]:
    if isinstance(arguments, Mapping):
        some = [arguments[key] for key in sorted(arguments, key=lambda name: (len(name), name))]
        found = [[each.get("arg_0"), each.get("arg_1")] for each in some if isinstance(each, Mapping)]
    else:
        some = arguments if isinstance(arguments, list) else []
        found = [each for each in some if isinstance(each, list) and each]
    if not found:
        raise RowProblemError("`arguments` names no request")
    return found


def _prompt(context: Any) -> Prompt:
    """Text; or chat messages, which the harness keeps as JSON in a list of one."""
    text = context[0] if isinstance(context, list) and len(context) == 1 else context
    if not isinstance(text, str):
        raise RowProblemError("the request's context is neither text nor chat messages")
    if isinstance(context, list):
        try:
            messages = json.loads(text)
            return [{"role": message["role"], "content": message["content"]} for message in messages]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise RowProblemError("the request's context is no chat of text messages") from error
    return text


def _answers(target: str) -> list[str]:
    """One; or several, which stand as Python would print a list."""
    if target.startswith("["):
        try:
            several = ast.literal_eval(target)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return [target]
        if isinstance(several, list) and several and all(isinstance(each, str) for each in several):
            return several
    return [target]


def _right(target: str, choices: Sequence[str]) -> int:
    if target.strip() in (places := list(map(str, range(len(choices))))):
        return places.index(target.strip())
    stripped = [choice.strip() for choice in choices]
    if target.strip() in stripped:
        return stripped.index(target.strip())
    raise RowProblemError(f"`target` {target[:60]!r} is none of its {len(choices)} choices")

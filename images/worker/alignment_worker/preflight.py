"""What a later stage would trip over, found in the first: prompts that no model or judge can read, too few of them,
or the same twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from alignment_api.stage import Expected, InputKind
from alignment_worker import dataset_prompts, drawing, graders, models, prompts, rows
from alignment_worker.failures import InvalidConfigError, InvalidModelError, InvalidRowError
from alignment_worker.inputs import Inputs
from alignment_worker.python_grader import client
from alignment_worker.rows import Row

_ASKED = ("goldSet", "heldOutPrompts")
_JUDGED = {
    "judge": ("prompts", "heldOutPrompts"),
    "comparisonJudge": ("heldOutPrompts",),
    "backbone": ("prompts", "heldOutPrompts"),
}


def check(inputs: Inputs, expected: Expected | None) -> None:
    """Nothing but for the first stage, whose inputs came without digests and which alone is told what to expect.

    Raises InvalidModelError, InvalidRowError, InvalidConfigError, PythonGraderError.
    """
    tokenizer_of_policy = cache(lambda: models.load_tokenizer(inputs.path("policy"), "policy"))
    if expected is not None:
        _check_expected(inputs, expected, tokenizer_of_policy)
    asked = [role for role in _ASKED if role in inputs.found]
    for role in asked:
        _check_distinct(inputs, role)
    if "policy" in inputs and asked:
        folder = inputs.path("policy")
        tokenizer, limit = tokenizer_of_policy(), models.max_positions(folder, "policy")
        embeddings = models.embeddings(folder, "policy")
        for role in asked:
            prompts.encode_rows(tokenizer, _rows(inputs, role), inputs.path(role), limit, embeddings)
    for judge, judged in _JUDGED.items():
        if judge in inputs.found:
            _check_judge(inputs, judge, [role for role in judged if role in inputs.found])


def _check_expected(inputs: Inputs, expected: Expected, tokenizer_of_policy: Callable[[], Any]) -> None:
    held_out, least = len(_rows(inputs, "heldOutPrompts")), expected.held_out_prompts
    if held_out < least:
        raise InvalidConfigError(
            f"spec.evaluation.comparison.minComparisons: {least}: {inputs.path('heldOutPrompts')} has {held_out} "
            "prompts, and each is compared once. Add held-out prompts, or lower minComparisons."
        )
    _check_programs(inputs, allowed=expected.python_grader)
    if expected.lora is not None:
        from alignment_worker import lora  # noqa: PLC0415 - peft only where adapters are asked for

        lora.configuration(expected.lora, models.without_weights(inputs.path("policy")))
    if expected.clusters:
        dataset_prompts.require_clusters(inputs)
    if expected.max_length is not None and "prompts" in inputs.found:
        _check_length(inputs, expected.max_length, tokenizer_of_policy())
    there = {row.category for row in _rows(inputs, "goldSet") if row.category is not None}
    for category in expected.gold_categories:
        if category not in there:
            raise InvalidConfigError(
                f"spec.gates.goldSet.categories: {category!r}: {inputs.path('goldSet')} has no item of this category; "
                f"its categories are: {', '.join(sorted(there))}"
            )


def _check_programs(inputs: Inputs, *, allowed: bool) -> None:
    """Rows whose grader runs code, where that is not allowed or cannot be done."""
    graded = (InputKind.GOLD_SET, InputKind.CHECKABLE_PROMPTS)
    for role in (role for role in inputs.found if inputs.kinds.get(role) in graded):
        row = next((row for row in _rows(inputs, role) if row.grader == graders.PYTHON), None)
        if row is not None and allowed:
            client.check()
        elif row is not None:
            file = inputs.path(role)
            raise InvalidRowError(
                f"{file}: {rows.where(file)} {row.number}: `grader` is Python, {graders.NOT_ALLOWED}"
            )


def _check_length(inputs: Inputs, max_length: int, tokenizer: Any) -> None:
    """One prompt that leaves room for a token is enough: how long answers get is not known yet."""
    shortest = None
    for row in _each(inputs, "prompts"):
        try:
            tokens = len(prompts.encode(tokenizer, row.prompt))
        except InvalidRowError:  # what draws the prompts says so, or draws others
            continue
        if tokens < max_length:
            return
        shortest = min(tokens, shortest or tokens)
    if shortest is not None:
        raise InvalidConfigError(
            f"spec.training.maxLength: {max_length}: the shortest prompt of {drawing.source(inputs)} has {shortest} "
            "tokens, so that no answer to any of them could be trained on. Raise it."
        )


def _check_distinct(inputs: Inputs, role: str) -> None:
    """The gates count every row as an independent one."""
    file = inputs.path(role)
    first: dict[str, int] = {}
    for row in _rows(inputs, role):
        earlier = first.setdefault(json.dumps(row.prompt), row.number)
        if earlier != row.number:
            where = rows.where(file)
            raise InvalidRowError(
                f"{file}: {where} {row.number}: `prompt` is that of {where} {earlier}, but every row counts as "
                "evidence of its own. Leave one of them out."
            )


def _check_judge(inputs: Inputs, judge: str, judged: Sequence[str]) -> None:
    folder = inputs.path(judge)
    tokenizer, embeddings = models.load_tokenizer(folder, judge), models.embeddings(folder, judge)
    unknown = max(tokenizer.get_vocab().values()) >= embeddings
    for role in judged:
        there = _each(inputs, role)
        for row in there if unknown else _one_of_each(there):
            try:
                ids = prompts.encode_answered(tokenizer, row.prompt, "yes")
            except InvalidModelError as error:
                raise InvalidModelError(f"{judge}: {error}") from error
            where = f"{judge}: {_where(inputs, role)} {row.number}: `prompt`"
            prompts.check_embeddings(where, tokenizer, ids, embeddings)


def _one_of_each(there: Iterable[Row]) -> list[Row]:
    """The first plain prompt and the first chat."""
    first: dict[bool, Row] = {}
    for row in there:
        first.setdefault(isinstance(row.prompt, str), row)
        if len(first) == 2:
            break
    return list(first.values())


def _each(inputs: Inputs, role: str) -> Iterable[Row]:
    """The same, those of datasets one by one: there may be many."""
    of_datasets = role == "prompts" and dataset_prompts.given(inputs)
    return dataset_prompts.each(inputs) if of_datasets else _rows(inputs, role)


def _where(inputs: Inputs, role: str) -> str:
    return (
        drawing.where(inputs)
        if role == "prompts"
        else f"{inputs.path(role)}: {rows.where(inputs.path(role))}"
    )


def _rows(inputs: Inputs, role: str) -> list[Row]:
    return rows.read(inputs.path(role), inputs.kinds[role])

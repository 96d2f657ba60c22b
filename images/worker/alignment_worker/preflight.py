"""What a later stage would trip over, found in the first: prompts that no model or judge can read, too few of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alignment_api.stage import Expected
from alignment_worker import models, prompts, rows
from alignment_worker.failures import InvalidConfigError, InvalidModelError
from alignment_worker.inputs import Inputs
from alignment_worker.rows import Row

_ASKED = ("goldSet", "heldOutPrompts")
_JUDGED = {"judge": ("prompts", "heldOutPrompts"), "comparisonJudge": ("heldOutPrompts",)}


def check(inputs: Inputs, expected: Expected | None) -> None:
    """Nothing but for the first stage, whose inputs came without digests and which alone is told what to expect.

    Raises InvalidModelError, InvalidRowError, InvalidConfigError.
    """
    if expected is not None:
        _check_expected(inputs, expected)
    asked = [role for role in _ASKED if role in inputs.found]
    if "policy" in inputs and asked:
        folder = inputs.path("policy")
        tokenizer, limit = models.load_tokenizer(folder, "policy"), models.max_positions(folder, "policy")
        for role in asked:
            prompts.encode_rows(tokenizer, _rows(inputs, role), inputs.path(role), limit)
    for judge, judged in _JUDGED.items():
        if judge in inputs.found:
            _check_judge(judge, inputs.path(judge), _one_of_each(inputs, judged))


def _check_expected(inputs: Inputs, expected: Expected) -> None:
    held_out, least = len(_rows(inputs, "heldOutPrompts")), expected.held_out_prompts
    if held_out < least:
        raise InvalidConfigError(
            f"evaluation.comparison.minComparisons: {least}: {inputs.path('heldOutPrompts')} has {held_out} "
            "prompts, and each is compared once. Add held-out prompts, or lower minComparisons."
        )
    there = {row.category for row in _rows(inputs, "goldSet") if row.category is not None}
    for category in expected.gold_categories:
        if category not in there:
            raise InvalidConfigError(
                f"gates.goldSet.categories: {category!r}: {inputs.path('goldSet')} has no item of this category; its "
                f"categories are: {', '.join(sorted(there))}"
            )


def _check_judge(role: str, folder: Path, some: Iterator[Row]) -> None:
    tokenizer = models.load_tokenizer(folder, role)
    for row in some:
        try:
            prompts.encode_answered(tokenizer, row.prompt, "yes")
        except InvalidModelError as error:
            raise InvalidModelError(f"{role}: {error}") from error


def _one_of_each(inputs: Inputs, roles: tuple[str, ...]) -> Iterator[Row]:
    """The first plain prompt and the first chat."""
    for role in roles:
        if role in inputs.found:
            there = _rows(inputs, role)
            for kind in (str, list):
                yield from [row for row in there if isinstance(row.prompt, kind)][:1]


def _rows(inputs: Inputs, role: str) -> list[Row]:
    return rows.read(inputs.path(role), inputs.kinds[role])

"""What a later stage would trip over, found in the first: prompts that a model or a judge cannot read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alignment_worker import models, prompts, rows
from alignment_worker.failures import InvalidModelError
from alignment_worker.inputs import Inputs
from alignment_worker.rows import Row

_ASKED = ("goldSet", "heldOutPrompts")
_JUDGED = {"judge": ("prompts", "heldOutPrompts"), "comparisonJudge": ("heldOutPrompts",)}


def check(inputs: Inputs) -> None:
    """Nothing but for the first stage, whose inputs came without digests. Raises InvalidModelError, InvalidRowError."""
    asked = [role for role in _ASKED if role in inputs.found]
    if "policy" in inputs and asked:
        folder = inputs.path("policy")
        tokenizer, limit = models.load_tokenizer(folder, "policy"), models.max_positions(folder, "policy")
        for role in asked:
            prompts.encode_rows(tokenizer, _rows(inputs, role), inputs.path(role), limit)
    for judge, judged in _JUDGED.items():
        if judge in inputs.found:
            _check_judge(judge, inputs.path(judge), _one_of_each(inputs, judged))


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

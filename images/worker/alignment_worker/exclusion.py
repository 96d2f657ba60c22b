"""Keeps gold and held-out prompts out of training: exact after normalisation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from alignment_api.stage import InputKind
from alignment_worker import rows
from alignment_worker.inputs import Inputs
from alignment_worker.rows import Prompt

_MEASURED_ON = {"goldSet": InputKind.GOLD_SET, "heldOutPrompts": InputKind.PROMPTS}


def forbidden(inputs: Inputs) -> frozenset[str]:
    """What `rows.normalised` makes of every gold and held-out prompt that the stage was given.

    Raises TooManyCategoriesError if both together have more categories than a report holds.
    """
    given = [role for role in _MEASURED_ON if role in inputs]
    measured_on = [row for role in given for row in rows.read(inputs.path(role), _MEASURED_ON[role])]
    rows.check_categories(" and ".join(str(inputs.path(role)) for role in given), measured_on)
    return frozenset(rows.normalised(row.prompt) for row in measured_on)


def allowed(prompts: Iterable[Prompt], forbidden_prompts: frozenset[str]) -> Sequence[bool]:
    """For each prompt, whether it may be trained on."""
    return [rows.normalised(prompt) not in forbidden_prompts for prompt in prompts]

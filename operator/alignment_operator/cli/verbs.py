"""What approve, reject, cancel and rollback share: an annotation that names the iteration, on a folder or a cluster."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click
from pydantic import ValidationError

from alignment_api import names
from alignment_api.conditions import ConditionType, find
from alignment_api.cycle_status import AlignmentCycleStatus, Iteration
from alignment_operator.api import CYCLE, Manifest
from alignment_operator.cli.errors import CommandError
from alignment_operator.cli.place import Place, place
from alignment_operator.plan import rollback
from alignment_operator.plan.verbs import Request


def held(cycle: Manifest) -> Iteration:
    """The iteration that waits for a person. Raises CommandError that says how it stands."""
    status = _status_of(cycle)
    waiting = find(status.conditions, ConditionType.WAITING_FOR_APPROVAL)
    if status.iteration is None or waiting is None or waiting.status != "True":
        raise CommandError(f"{_standing(cycle, status.iteration)}; nothing waits for a person")
    return status.iteration


def unfinished(cycle: Manifest) -> Iteration:
    """The iteration that has no outcome. Raises CommandError that says how it ended."""
    iteration = _status_of(cycle).iteration
    if iteration is None or iteration.outcome is not None:
        raise CommandError(f"{_standing(cycle, iteration)}; none is running")
    return iteration


def to_go_back_to(cycle: Manifest, wanted: int | None) -> int:
    """The iteration of a rollback: the last promoted before this one, or M_0. Raises CommandError if there is none.

    What was rolled back from comes later than what serves, and so is gone back to only by its number.
    """
    status = _status_of(cycle)
    serves = status.promoted.iteration if status.promoted else 0
    earlier = [each.iteration for each in status.promotions if each.iteration < serves]
    number = max(earlier, default=0) if wanted is None else wanted
    request = Request("rollback", str(number), number)
    if problem := rollback.problem(status, request):
        raise CommandError(f"{cycle['metadata']['name']}: {problem}")
    return number


async def say(
    verb: str, name: str, state: Path | None, namespace: str | None, value_of: Callable[[Manifest], str]
) -> tuple[Place, Manifest]:
    """Write the verb's annotation, and see to it in a folder that nobody runs on. Returns the cycle after it."""
    async with place(state, namespace) as where:
        cycle = await where.one(CYCLE, name)
        value = value_of(cycle)
        metadata = cycle["metadata"]
        patch = {"metadata": {"uid": metadata["uid"], "annotations": {names.verb_annotation(verb): value}}}
        cycle = await where.api.merge(CYCLE, metadata["namespace"], name, patch)
        click.echo(f"{name}: {verb} {value}, in {where}")
        if where.state is not None:
            cycle = await _seen_to(where.state, cycle)
        return where, cycle


async def _seen_to(state: Path, cycle: Manifest) -> Manifest:
    from alignment_operator.local.files import BusyError  # noqa: PLC0415
    from alignment_operator.local.run import decide  # noqa: PLC0415

    try:
        return await decide(state, cycle, datetime.now(UTC))
    except BusyError:  # the alignctl that runs there sees the annotation
        return cycle


def _status_of(cycle: Manifest) -> AlignmentCycleStatus:
    try:
        return AlignmentCycleStatus.of(cycle.get("status"))
    except ValidationError as error:
        name = cycle["metadata"]["name"]
        raise CommandError(
            f"the status of {name} is not one that this version wrote: {error.errors()[0]['msg']}"
        ) from error


def _standing(cycle: Manifest, iteration: Iteration | None) -> str:
    name = cycle["metadata"]["name"]
    if iteration is None:
        return f"{name} has had no iteration"
    return f"iteration {iteration.number} of {name} is {iteration.outcome or 'running'}"

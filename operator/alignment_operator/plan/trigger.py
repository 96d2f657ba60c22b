"""What starts an iteration now, beside a person, and when to look again.

What was acted on stands in status: `nextRunAt` moves on and `iterations` grows in the write that starts an iteration.
So an operator that is killed between freezing and that write decides the same again, and one that finds an empty status
counts as started what the ControllerRevisions show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from alignment_api.conditions import ConditionType, Reason, find
from alignment_api.cycle_status import LearnedFrom, StartedBy
from alignment_api.trigger import Trigger
from alignment_operator import schedules
from alignment_operator.observed import ObservedCycle
from alignment_operator.plan import instants, lineage, start
from alignment_operator.planned import Event

_A_SECOND = timedelta(seconds=1)
_FURTHEST_AHEAD = timedelta(days=1)  # what started later than that was started by a clock that was wrong


@dataclass(frozen=True)
class Outlook:
    """What spec.trigger says now.

    `start`: what asks for an iteration; the caller sees to whether one can start. `slot` is that of the schedule, if
    it is the schedule. `waits_for`: what an idle cycle waits for, for people.
    """

    start: StartedBy | None = None
    slot: str = ""
    next_run_at: str | None = None
    wake_at: datetime | None = None
    waits_for: str = "the annotation alignment.dev/run"
    event: Event | None = None


@dataclass(frozen=True)
class _Past:
    """The newest iteration that counts as started."""

    started_at: datetime | None
    datasets: Mapping[str, LearnedFrom]


@dataclass(frozen=True)
class _Slots:
    """`due`: may start now, or as soon as nothing is in the way. `announced`: that one, or when the next start is."""

    due: datetime | None
    announced: datetime | None


def look(observed: ObservedCycle, now: datetime) -> Outlook:
    """Of a cycle that is not stalled, with all that is recalled of it.

    While it is suspended, nothing is due and nothing is announced.
    """
    spec, status = observed.spec, observed.status
    assert spec is not None
    trigger = spec.trigger
    if trigger is None or spec.suspend or not observed.settings.heed_triggers:
        return Outlook()
    past = _past(observed, now)
    ready_at = past.started_at + timedelta(seconds=trigger.cooldown_seconds) if past.started_at else now
    slots = _slots(observed, trigger, past, ready_at, now)
    new = _new_pairs(observed, past)
    enough = trigger.new_pairs is not None and new >= trigger.new_pairs
    cooled_at = ready_at if enough and ready_at > now else None
    running = status.iteration is not None and status.iteration.outcome is None
    may_start = not running and now >= ready_at
    by: StartedBy | None = None
    if may_start and (slots.due or enough):
        by = "Schedule" if slots.due else "NewPairs"
    return Outlook(
        start=by,
        slot=instants.spell(slots.due) if slots.due and by == "Schedule" else "",
        next_run_at=instants.spell(slots.announced) if slots.announced else None,
        wake_at=_wake_at(trigger, slots, None if running else cooled_at, running=running),
        waits_for=_waits_for(trigger, slots, new),
        event=_missed(observed, trigger, past, now),
    )


def _past(observed: ObservedCycle, now: datetime) -> _Past:
    """Of status and ControllerRevisions, whichever knows more; what was frozen last may not have started yet.

    A clock that is put back a little starts no slot twice. One that was far ahead tells nothing: else nothing would
    start before that time has really come.
    """
    status = observed.status
    iteration = status.iteration
    counted = [number for number in observed.frozen if number <= (status.iterations or 0)]
    last = max(counted, default=0)
    if iteration and iteration.number >= last:
        return _Past(_believed(iteration.started_at, now), lineage.worked_from(iteration.datasets))
    if not counted:
        return _Past(None, {})
    frozen = observed.frozen[last]
    return _Past(_believed(frozen.started_at, now), lineage.worked_from(frozen.datasets))


def _believed(started_at: str, now: datetime) -> datetime | None:
    instant = instants.parse(started_at) if started_at else None
    return instant if instant and instant <= now + _FURTHEST_AHEAD else None


def _slots(
    observed: ObservedCycle, trigger: Trigger, past: _Past, ready_at: datetime, now: datetime
) -> _Slots:
    if trigger.schedule is None:
        return _Slots(None, None)
    deadline = timedelta(seconds=trigger.starting_deadline_seconds)
    started_at, announced = past.started_at, _first_to_come(observed)
    if ready_at > now:  # for the cooldown, or because the clock was put back
        last, ahead = schedules.around(trigger.schedule, trigger.time_zone, ready_at)
        known = last and announced and (last >= announced or announced == ready_at)
        caught_up = known and last and started_at and last > started_at and last + deadline >= ready_at
        return _Slots(None, ready_at if caught_up else ahead)
    last, ahead = schedules.around(trigger.schedule, trigger.time_zone, now)
    if last is None or announced is None or last + deadline < now or (started_at and last <= started_at):
        return _Slots(None, ahead)
    # The end of a cooldown is announced for a slot that came before it.
    return _Slots(last, last) if last >= announced or announced == ready_at else _Slots(None, ahead)


def _first_to_come(observed: ObservedCycle) -> datetime | None:
    """No slot before this was missed: it was never announced. None: none was.

    So a schedule that is new, or was edited, does not start for a slot of the past.
    """
    status = observed.status
    if status.next_run_at:
        return instants.parse(status.next_run_at)
    suspended = find(status.conditions, ConditionType.SUSPENDED)
    if suspended and suspended.status == "True":
        return instants.parse(suspended.last_transition_time)
    return observed.owner.created_at if status.observed_generation is None else None


def _new_pairs(observed: ObservedCycle, past: _Past) -> int:
    """Newer than what the last iteration worked from, however that ended."""
    known = {**lineage.known(observed.status.promoted), **past.datasets}
    return sum(lineage.new_pairs(view.revision, known) for view in observed.datasets if view.revision)


def _wake_at(
    trigger: Trigger, slots: _Slots, cooled_at: datetime | None, *, running: bool
) -> datetime | None:
    """What is due and waits for a dataset, or for the running iteration, is woken by that, and else expires."""
    if slots.announced and (slots.due or running):
        expires = timedelta(seconds=trigger.starting_deadline_seconds) + _A_SECOND
        return instants.earliest(slots.announced + expires, cooled_at)
    return instants.earliest(slots.announced, cooled_at)


def _waits_for(trigger: Trigger, slots: _Slots, new: int) -> str:
    parts = []
    if slots.due:
        parts.append(f"the iteration that was due at {_short(slots.due)}")
    elif slots.announced:
        parts.append(f"next iteration at {_short(slots.announced)}")
    if trigger.new_pairs:
        parts.append(f"{new} of {trigger.new_pairs} new pairs are there")
    return "; ".join(parts) or "the schedule has no slot within 50 years"


def _missed(observed: ObservedCycle, trigger: Trigger, past: _Past, now: datetime) -> Event | None:
    """Told in the pass that announces another slot instead."""
    status = observed.status
    if trigger.schedule is None or not status.next_run_at:
        return None
    slot = instants.parse(status.next_run_at)
    if slot + timedelta(seconds=trigger.starting_deadline_seconds) >= now or (
        past.started_at and past.started_at >= slot
    ):
        return None
    iteration, blocked = status.iteration, start.blocked_by(observed)
    why = f": {blocked[1]}" if blocked else ""
    if iteration and not iteration.outcome:
        why = f": iteration {iteration.number} had not ended"
    message = f"nothing started for {_short(slot)} within {trigger.starting_deadline_seconds} s{why}"
    return Event(Reason.SCHEDULE_MISSED, message, warning=True)


def _short(slot: datetime) -> str:
    """A slot has no seconds."""
    return f"{slot:%Y-%m-%dT%H:%MZ}"

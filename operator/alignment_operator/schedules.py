"""Cron schedules: what is wrong with one, and the slots around an instant. Pure, but for the time zone database."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.dataset import PreferenceDatasetSpec
from alignment_api.trigger import Refresh, Trigger
from alignment_api.validation import Problem

_ANY_DAY = datetime(2000, 1, 1, tzinfo=UTC)


def problems(spec: AlignmentCycleSpec | PreferenceDatasetSpec | None) -> tuple[Problem, ...]:
    """What no schema can tell of spec.trigger or spec.refresh: a day that never comes, an unknown time zone."""
    scheduled: Refresh | Trigger | None
    if isinstance(spec, PreferenceDatasetSpec):
        path, scheduled = "spec.refresh", spec.refresh
    else:
        path, scheduled = "spec.trigger", spec.trigger if spec else None
    if scheduled is None or scheduled.schedule is None:
        return ()
    found = []
    if said := _misread(scheduled.schedule):
        found.append(
            Problem(f"{path}.schedule", f'"{scheduled.schedule}"', f"is not a cron schedule: {said}")
        )
    if not _known(scheduled.time_zone):
        message = "is not a known time zone; write Europe/Berlin, for example"
        found.append(Problem(f"{path}.timeZone", f'"{scheduled.time_zone}"', message))
    return tuple(found)


def around(schedule: str, time_zone: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The last slot at or before `now`, and the first one after it, both UTC; None: not within 50 years.

    Raises what `problems` would have told. The last slot is found backwards, so that missed ones cost nothing. As in
    Debian's cron, a slot at a fixed time that the clock jumps over is right after the jump, and one that the clock
    shows twice is at the first time; what comes every minute or every hour just goes on.
    """
    local = now.replace(microsecond=0).astimezone(ZoneInfo(time_zone))
    # A part of a second makes the parser count a slot at this very second.
    last = next(CronSim(schedule, local.replace(microsecond=1), reverse=True), None)
    # Forwards from there: while the clock shows an hour for the second time, the way back does not see its slots.
    for slot in CronSim(schedule, last or local):
        if slot > now:
            return _utc(last), _utc(slot)
        last = slot
    return _utc(last), None


def _utc(slot: datetime | None) -> datetime | None:
    return slot.astimezone(UTC) if slot else None


def _misread(schedule: str) -> str:
    """The parser's own words; empty if it reads it."""
    try:
        if next(CronSim(schedule, _ANY_DAY), None) is None:
            return "it names no day that ever comes"
    except CronSimError as error:
        return str(error)
    return ""


def _known(time_zone: str) -> bool:
    """`Local` and `localtime` would be whatever the operator's image says."""
    try:
        ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError):
        return False
    return time_zone != "localtime"

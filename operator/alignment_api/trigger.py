"""`spec.trigger` of AlignmentCycle: what starts an iteration, beside a person."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, StringConstraints

from alignment_api.model import Model, Rule

SCHEDULE_PATTERN = r"^[0-9A-Za-z*/,#-]+( +[0-9A-Za-z*/,#-]+){4}$"
TIME_ZONE_PATTERN = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"
UTC = "Etc/UTC"


def _range(value: str) -> str:
    return f"([*]|{value}(-{value})?)(/[1-9][0-9]?)?"


def _fields_pattern() -> str:
    """What each field may hold, as Debian's cron reads it. The parser tells the rest: 31 February, for example."""
    day = "([0-7]|sun|mon|tue|wed|thu|fri|sat)"
    month = "(0?[1-9]|1[0-2]|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    fields = (
        _range("[0-5]?[0-9]"),
        _range("([01]?[0-9]|2[0-3])"),
        _range("(0?[1-9]|[12][0-9]|3[01])") + "|LW?",
        _range(month),
        _range(day) + f"|[0-7]L|{day}#[1-5]",
    )
    return "(?i)^" + " +".join(f"({field})(,({field}))*" for field in fields) + "$"


_FIELDS = _fields_pattern()


_IN_RANGE = (
    "holds a value that its field cannot have: minute 0-59, hour 0-23, day of month 1-31 or L or LW, "
    "month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT"
)
Schedule = Annotated[str, StringConstraints(pattern=SCHEDULE_PATTERN, max_length=128)]
TimeZone = Annotated[str, StringConstraints(pattern=TIME_ZONE_PATTERN, max_length=64)]


class Refresh(Model):
    """When a PreferenceDataset is read anew, beside a change of its spec and the annotation alignment.dev/run."""

    schedule: Schedule = Field(
        description="Cron, five fields: minute, hour, day of month, month, day of week. Of slots that were missed, one "
        "is caught up."
    )
    time_zone: TimeZone = Field(UTC, description="IANA name of the time zone that the schedule is in.")

    rules = (
        Rule(
            cel=f"self.schedule.matches('{_FIELDS}')",
            message=_IN_RANGE,
            field_path=".schedule",
            holds=lambda refresh: bool(re.search(_FIELDS, refresh.schedule)),
        ),
    )


class Trigger(Model):
    """What starts an iteration, beside the annotation alignment.dev/run."""

    schedule: Schedule | None = Field(
        None, description="Cron, five fields: minute, hour, day of month, month, day of week."
    )
    time_zone: TimeZone = Field(UTC, description="IANA name of the time zone that the schedule is in.")
    starting_deadline_seconds: int = Field(
        3600,
        ge=10,
        le=31_536_000,
        description="A slot that was missed by more than this is skipped; of several only the last is caught up.",
    )
    new_pairs: int | None = Field(
        None,
        ge=1,
        le=1_000_000_000,
        description="As soon as spec.datasets hold this many pairs that neither the incumbent's lineage nor the last "
        "iteration worked from.",
    )
    cooldown_seconds: int = Field(
        0, ge=0, le=31_536_000, description="Least time between two starts; the run annotation does not wait."
    )

    rules = (
        Rule(
            cel="has(self.schedule) || has(self.newPairs)",
            message="starts nothing: give schedule, newPairs or both, or leave trigger out",
            field_path="",
            holds=lambda trigger: trigger.schedule is not None or trigger.new_pairs is not None,
        ),
        Rule(
            cel=f"!has(self.schedule) || self.schedule.matches('{_FIELDS}')",
            message=_IN_RANGE,
            field_path=".schedule",
            holds=lambda trigger: trigger.schedule is None or bool(re.search(_FIELDS, trigger.schedule)),
        ),
        Rule(
            cel=f"has(self.schedule) || self.timeZone == '{UTC}'",
            message="means nothing without schedule",
            field_path=".timeZone",
            holds=lambda trigger: trigger.schedule is not None or trigger.time_zone == UTC,
        ),
    )

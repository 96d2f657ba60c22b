"""Slots of cron schedules around an instant, over changes of the clock."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from alignment_api.dataset import PreferenceDatasetSpec
from alignment_operator.schedules import around, problems
from tests.operator.plan_world import cycle_spec

BERLIN = "Europe/Berlin"  # 02:00 → 03:00 on 29 March 2026, 03:00 → 02:00 on 25 October


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "last", "following"),
    [
        ("0 3 * * 1", "Etc/UTC", "2026-11-23T03:00:00", "2026-11-23T03:00", "2026-11-30T03:00"),
        ("0 3 * * 1", "Etc/UTC", "2026-11-23T02:59:59", "2026-11-16T03:00", "2026-11-23T03:00"),
        ("0 3 * * *", BERLIN, "2026-01-10T12:00", "2026-01-10T02:00", "2026-01-11T02:00"),
        ("0 3 * * *", BERLIN, "2026-07-10T12:00", "2026-07-10T01:00", "2026-07-11T01:00"),
        # What the clock jumps over is right after the jump.
        ("30 2 * * *", BERLIN, "2026-03-29T00:59:59", "2026-03-28T01:30", "2026-03-29T01:00"),
        ("30 2 * * *", BERLIN, "2026-03-29T01:00:00", "2026-03-29T01:00", "2026-03-30T00:30"),
        # What it shows twice is at the first time, and only then.
        ("30 2 * * *", BERLIN, "2026-10-25T00:30:00", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("30 2 * * *", BERLIN, "2026-10-25T01:10:00", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("30 2 * * *", BERLIN, "2026-10-25T01:30:00", "2026-10-25T00:30", "2026-10-26T01:30"),
        # What comes every half hour just goes on.
        ("*/30 * * * *", BERLIN, "2026-10-25T01:10:00", "2026-10-25T01:00", "2026-10-25T01:30"),
        ("*/30 * * * *", BERLIN, "2026-03-29T01:10:00", "2026-03-29T01:00", "2026-03-29T01:30"),
        ("0 0 29 2 *", "Etc/UTC", "2026-11-23T00:00", "2024-02-29T00:00", "2028-02-29T00:00"),
    ],
)
def test_the_slots_around_an_instant(schedule: str, zone: str, now: str, last: str, following: str) -> None:
    assert around(schedule, zone, utc(now)) == (utc(last), utc(following))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    change=st.sampled_from(
        [
            (BERLIN, "2026-03-29T01:00"),
            (BERLIN, "2026-10-25T01:00"),
            ("Australia/Lord_Howe", "2026-04-04T15:00"),
            ("Africa/Cairo", "2026-10-29T21:00"),
            ("America/Havana", "2026-11-01T05:00"),
        ]
    ),
    seconds=st.integers(-9000, 9000),
    schedule=st.sampled_from(["30 2 * * *", "0 0 * * *", "*/20 * * * 6", "15 0-4 * * *", "0,30 1,2 * * *"]),
)
def test_near_a_change_of_the_clock_they_are_those_that_counting_from_afar_gives(
    change: tuple[str, str], seconds: int, schedule: str
) -> None:
    zone, at = change
    now = utc(at) + timedelta(seconds=seconds)
    last = None
    for slot in CronSim(schedule, (now - timedelta(days=8)).astimezone(ZoneInfo(zone))):
        if slot > now:
            break
        last = slot
    assert last is not None
    assert around(schedule, zone, now) == (last.astimezone(UTC), slot.astimezone(UTC))


def test_it_takes_no_longer_however_many_slots_there_were() -> None:
    began = time.perf_counter()
    for _ in range(100):
        around("* * * * *", BERLIN, utc("2026-11-23T03:00"))
    assert time.perf_counter() - began < 2.0


@pytest.mark.parametrize(
    ("trigger", "path", "said"),
    [
        ({"schedule": "0 0 30 2 *"}, "spec.trigger.schedule", "Bad day-of-month"),
        ({"schedule": "0 5-1 * * *"}, "spec.trigger.schedule", "Bad hour"),
        ({"schedule": "* * */20 * 1L"}, "spec.trigger.schedule", "it names no day that ever comes"),
        (
            {"schedule": "0 3 * * *", "timeZone": "Europe/Atlantis"},
            "spec.trigger.timeZone",
            "not a known time zone",
        ),
        ({"schedule": "0 3 * * *", "timeZone": "Europe"}, "spec.trigger.timeZone", "not a known time zone"),
        (
            {"schedule": "0 3 * * *", "timeZone": "localtime"},
            "spec.trigger.timeZone",
            "not a known time zone",
        ),
    ],
)
def test_what_no_schema_can_tell_is_told_with_its_path(trigger: dict[str, str], path: str, said: str) -> None:
    (problem,) = problems(cycle_spec(trigger=trigger))
    assert problem.path == path
    assert said in problem.message


def test_a_datasets_schedule_is_looked_at_too() -> None:
    spec = {
        "store": {"uri": "pvc://a/b"},
        "sources": [{"name": "a", "files": {"uri": "pvc://a/b"}}],
        "refresh": {"schedule": "0 0 30 2 *", "timeZone": "Europe/Atlantis"},
    }
    found = problems(PreferenceDatasetSpec.from_wire(spec))
    assert [problem.path for problem in found] == ["spec.refresh.schedule", "spec.refresh.timeZone"]


def test_a_good_schedule_and_no_schedule_have_no_problems() -> None:
    assert problems(cycle_spec()) == ()
    assert problems(cycle_spec(trigger={"schedule": "0 3 * * MON#1", "timeZone": "Asia/Kolkata"})) == ()

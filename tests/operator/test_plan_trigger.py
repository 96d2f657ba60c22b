"""What starts an iteration beside a person: schedules and new pairs, told as stories. Time is only ever passed in."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from alignment_operator.observed import PodView
from alignment_operator.plan.cycle import plan
from alignment_operator.planned import Event
from alignment_operator.schedules import problems
from tests.operator.plan_world import START, World, cycle_spec

HOURLY = {"schedule": "0 * * * *"}
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def triggered(trigger: dict[str, Any], quality: str = "good", **changes: Any) -> World:
    """A cycle that was made and observed soon after 03:30."""
    world = World(spec=cycle_spec(trigger=trigger, **changes), quality=quality)
    world.created = at(3, 30) + timedelta(seconds=10)
    world.now = at(3, 30) + timedelta(seconds=30)
    world.pass_()
    world.pass_()
    return world


def paired(pairs: int, trigger: dict[str, Any], quality: str = "good") -> World:
    world = World(
        spec=cycle_spec(datasets=[{"name": "feedback"}], trigger=trigger),
        quality=quality,
        datasets={"feedback": pairs},
    )
    world.pass_()
    return world


def until_ended(world: World) -> list[Event]:
    """Without letting time pass; what was told."""
    events: list[Event] = []
    for _ in range(60):
        events += world.pass_().events
        world.reap()
        for name in world.working():
            world.succeed(name)
        if world.iteration.get("outcome") or not world.iteration:
            break
    events += world.pass_().events
    events += world.pass_().events
    return events


def ready(world: World) -> str:
    return next(str(row["message"]) for row in world.status["conditions"] if row["type"] == "Ready")


def at(hour: int, minute: int = 0) -> datetime:
    return START.replace(hour=hour, minute=minute)


# --- schedules


def test_a_slot_before_the_cycle_was_made_starts_nothing() -> None:
    world = World(spec=cycle_spec(trigger={"schedule": "58 2 * * *"}))
    until_ended(world)
    assert not world.iteration
    assert world.status["nextRunAt"] == "2026-11-24T02:58:00Z"


def test_an_idle_cycle_says_when_it_runs_next_and_wakes_then() -> None:
    world = triggered(HOURLY)
    assert world.status["nextRunAt"] == "2026-11-23T04:00:00Z"
    assert ready(world) == "next iteration at 2026-11-23T04:00Z"
    assert world.pass_().wake_at == at(4)


def test_a_slot_starts_one_iteration() -> None:
    world = triggered(HOURLY)
    world.now = at(4)
    events = until_ended(world)
    assert [event.reason for event in events].count("IterationStarted") == 1
    assert (world.iteration["trigger"], world.iteration["number"]) == ("Schedule", 1)
    assert world.iteration["outcome"] == "Promoted"
    assert world.frozen[1].slot == "2026-11-23T04:00:00Z"
    assert world.status["nextRunAt"] == "2026-11-23T05:00:00Z"


def test_a_slot_that_was_missed_by_less_than_the_deadline_is_caught_up() -> None:
    world = triggered(HOURLY | {"startingDeadlineSeconds": 1200})
    world.now = at(4, 19)
    until_ended(world)
    assert world.iteration["trigger"] == "Schedule"


def test_a_slot_that_was_missed_by_more_is_skipped_and_told_once() -> None:
    world = triggered({"schedule": "0 4 * * *", "startingDeadlineSeconds": 1200})
    world.now = at(4, 21)
    events = until_ended(world)
    assert not world.iteration
    assert [event.reason for event in events] == ["ScheduleMissed"]
    assert "nothing started for 2026-11-23T04:00Z within 1200 s" in events[0].message
    assert world.status["nextRunAt"] == "2026-11-24T04:00:00Z"


def test_of_ten_thousand_missed_slots_one_is_caught_up() -> None:
    world = triggered({"schedule": "* * * * *"})
    world.now += 10_000 * MINUTE
    until_ended(world)
    assert list(world.frozen) == [1]
    assert world.frozen[1].slot == world.now.strftime("%Y-%m-%dT%H:%M:00Z")


def test_a_clock_that_is_put_back_starts_no_slot_twice() -> None:
    world = triggered(HOURLY)
    world.now = at(5, 1)
    until_ended(world)
    for minutes in (2, 30, 62, 90):
        world.now = at(5, 1) - minutes * MINUTE
        until_ended(world)
        assert list(world.frozen) == [1]
        assert world.status["nextRunAt"] == "2026-11-23T06:00:00Z"
    world.now = at(6)
    until_ended(world)
    assert list(world.frozen) == [1, 2]


@pytest.mark.parametrize("trigger", [HOURLY, HOURLY | {"cooldownSeconds": 1800}])
def test_a_clock_that_was_a_year_ahead_and_is_put_right_holds_nothing_up(trigger: dict[str, Any]) -> None:
    world = triggered(trigger)
    world.now = at(4) + 365 * DAY
    until_ended(world)
    assert list(world.frozen) == [1]
    world.now = at(4, 10)
    assert not until_ended(world), "it has not missed a slot either"
    assert (list(world.frozen), world.status["nextRunAt"]) == ([1], "2026-11-23T05:00:00Z")
    world.now = at(5)
    until_ended(world)
    assert (world.iteration["trigger"], world.frozen[2].slot) == ("Schedule", "2026-11-23T05:00:00Z")
    assert world.status["nextRunAt"] == "2026-11-23T06:00:00Z"


def test_nor_does_it_when_the_status_was_lost_meanwhile() -> None:
    world = triggered(HOURLY, quality="hacked")
    world.now = at(4) + 365 * DAY
    until_ended(world)
    world.now, world.status = at(4, 10), {}
    until_ended(world)
    assert world.frozen[2].slot == "2026-11-23T04:00:00Z"
    assert world.status["nextRunAt"] == "2026-11-23T05:00:00Z"


def test_new_pairs_do_not_wait_for_the_cooldown_of_a_clock_that_was_a_year_ahead() -> None:
    world = paired(499, {"newPairs": 500, "cooldownSeconds": 3600})
    world.now, world.datasets["feedback"] = START + 365 * DAY, 500
    until_ended(world)
    world.now, world.datasets["feedback"] = START + MINUTE, 1000
    until_ended(world)
    assert world.iteration["number"] == 2


def test_one_iteration_at_a_time_and_the_slot_that_it_held_up_follows_within_the_deadline() -> None:
    world = triggered(HOURLY)
    world.now = at(4)
    world.pass_()
    world.pass_()
    world.change(world.active()[0], pod=PodView(started=True))
    world.now = at(5, 10)
    assert world.pass_().wake_at == at(6) + timedelta(seconds=1)
    assert world.status["nextRunAt"] == "2026-11-23T05:00:00Z"
    until_ended(world)
    world.pass_()
    assert (world.iteration["number"], world.frozen[2].slot) == (2, "2026-11-23T05:00:00Z")


def test_an_iteration_that_is_held_holds_up_the_next_which_is_told() -> None:
    world = triggered({"schedule": "0 4 * * *"}, quality="unclear")
    world.now = at(4)
    until_ended(world)
    world.now += DAY
    assert not until_ended(world)
    world.now += HOUR + MINUTE
    (missed,) = until_ended(world)
    assert missed.reason == "ScheduleMissed"
    assert "iteration 1 had not ended" in missed.message
    assert list(world.frozen) == [1]
    world.annotations["alignment.dev/reject"] = "1"
    until_ended(world)
    assert world.status["nextRunAt"] == "2026-11-25T04:00:00Z"
    world.now = at(4) + 2 * DAY
    until_ended(world)
    assert world.iteration["number"] == 2


def test_the_cooldown_counts_from_the_last_start_whatever_it_was() -> None:
    world = triggered({"schedule": "*/10 * * * *", "cooldownSeconds": 5400})
    world.annotations["alignment.dev/run"] = "now"
    until_ended(world)
    for now in (at(3, 40), at(4, 20), at(5)):
        world.now = now
        assert not until_ended(world)
        assert world.status["nextRunAt"] == "2026-11-23T05:00:30Z"
        assert world.pass_().wake_at == at(5) + timedelta(seconds=30)
    world.now = at(5) + timedelta(seconds=30)
    until_ended(world)
    assert (world.iteration["number"], world.iteration["trigger"]) == (2, "Schedule")


def test_a_slot_that_the_cooldown_outlasts_is_not_announced() -> None:
    world = triggered({"schedule": "0 4,5 * * *", "cooldownSeconds": 7200, "startingDeadlineSeconds": 1200})
    world.now = at(4)
    until_ended(world)
    assert world.status["nextRunAt"] == "2026-11-24T04:00:00Z"
    world.now = at(4) + DAY
    until_ended(world)
    assert world.iteration["number"] == 2


def test_a_cooldown_as_long_as_the_schedules_step_loses_no_slot() -> None:
    world = triggered(HOURLY | {"cooldownSeconds": 3600})
    for hour in (4, 5, 6):
        world.now = at(hour) + timedelta(seconds=hour)  # each start is a little later
        until_ended(world)
    assert [frozen.slot[11:16] for frozen in world.frozen.values()] == ["04:00", "05:00", "06:00"]


def test_the_run_annotation_needs_no_slot_and_no_cooldown() -> None:
    world = triggered(HOURLY | {"cooldownSeconds": 86_400})
    for number in (1, 2):
        world.annotations["alignment.dev/run"] = str(number)
        until_ended(world)
        assert (world.iteration["number"], world.iteration["trigger"]) == (number, "Manual")


def test_an_iteration_that_starts_after_a_slot_for_another_reason_takes_its_place() -> None:
    world = triggered(HOURLY)
    world.now = at(4, 5)
    world.annotations["alignment.dev/run"] = "now"
    until_ended(world)
    assert list(world.frozen) == [1]
    assert world.status["nextRunAt"] == "2026-11-23T05:00:00Z"


@pytest.mark.parametrize(
    "edit", [{"schedule": "15 * * * *"}, {"schedule": "0 4 * * *", "timeZone": "Europe/Berlin"}]
)
def test_an_edited_schedule_does_not_start_for_a_slot_of_the_past(edit: dict[str, str]) -> None:
    world = triggered({"schedule": "0 12 * * *"})
    world.spec, world.generation = cycle_spec(trigger=edit), 2
    until_ended(world)
    assert not world.iteration
    assert world.status["nextRunAt"] > "2026-11-23T03:31"


def test_a_schedule_that_is_new_in_a_cooldown_does_not_start_for_a_slot_of_the_past() -> None:
    world = World(spec=cycle_spec())
    world.now = at(9)
    world.annotations["alignment.dev/run"] = "1"
    until_ended(world)
    world.now = at(12)
    world.spec = cycle_spec(trigger={"schedule": "0 10 * * *", "cooldownSeconds": 4 * 3600})
    world.generation += 1
    world.pass_()
    assert world.status["nextRunAt"] == "2026-11-24T10:00:00Z"
    world.now = at(13) + MINUTE
    until_ended(world)
    assert world.iteration["number"] == 1


def test_a_schedule_that_is_new_does_not_start_for_a_slot_of_the_past() -> None:
    world = World()
    world.now = at(4, 5)
    world.pass_()
    world.spec, world.generation = cycle_spec(trigger=HOURLY), 2
    until_ended(world)
    assert not world.iteration
    assert world.status["nextRunAt"] == "2026-11-23T05:00:00Z"


@pytest.mark.parametrize(
    ("schedule", "created", "slots"),
    [
        # In Berlin 02:30 does not exist on 29 March 2026, and is there twice on 25 October.
        ("30 2 * * *", "2026-03-28T12:00", ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]),
        ("30 2 * * *", "2026-10-24T12:00", ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]),
    ],
)
def test_over_a_change_of_the_clock_each_day_has_one_iteration(
    schedule: str, created: str, slots: list[str]
) -> None:
    world = World(spec=cycle_spec(trigger={"schedule": schedule, "timeZone": "Europe/Berlin"}))
    world.now = datetime.fromisoformat(created).replace(tzinfo=START.tzinfo)
    world.pass_()
    for _ in range(42 * 2):
        world.now += 30 * MINUTE
        until_ended(world)
    assert [frozen.slot for frozen in world.frozen.values()] == slots


def test_killed_after_it_froze_an_iteration_for_a_slot_it_takes_that_one_up() -> None:
    world = triggered(HOURLY)
    world.now = at(4)
    world.pass_(crash_after=1)
    assert list(world.frozen) == [1]
    assert not world.iteration
    world.now += 5 * MINUTE
    until_ended(world)
    assert list(world.frozen) == [1]
    assert world.iteration["startedAt"] == "2026-11-23T04:00:00Z"
    assert world.iteration["outcome"] == "Promoted"


@pytest.mark.parametrize("crash_after", [0, 1])
def test_killed_in_its_very_first_pass_it_starts_for_a_slot_that_is_due(crash_after: int) -> None:
    world = World(spec=cycle_spec(trigger=HOURLY))
    world.created, world.now = at(3, 30), at(4, 1)
    world.pass_(crash_after=crash_after)
    world.pass_()
    until_ended(world)
    assert (world.iteration["outcome"], world.frozen[1].slot) == ("Promoted", "2026-11-23T04:00:00Z")


@pytest.mark.parametrize("passes", [1, 2, 40])
def test_a_slot_that_was_taken_is_not_started_again_when_the_status_is_lost(passes: int) -> None:
    world = triggered(HOURLY, quality="hacked")
    world.now = at(4)
    for _ in range(passes):
        world.pass_()
        for name in world.working():
            world.succeed(name)
    world.status = {}
    world.now += MINUTE
    until_ended(world)
    assert list(world.frozen) == [1]
    assert not world.iteration
    assert world.status["iterations"] == 1
    assert world.status["nextRunAt"] == "2026-11-23T05:00:00Z"
    world.now = at(5)
    until_ended(world)
    assert (world.iteration["number"], list(world.frozen)) == (2, [1, 2])


def test_a_request_that_was_handled_is_not_acted_on_again_when_the_status_is_lost() -> None:
    world = triggered(HOURLY, quality="hacked")
    world.annotations["alignment.dev/run"] = "now"
    until_ended(world)
    world.now = at(4)
    until_ended(world)
    world.status = {}
    until_ended(world)
    assert list(world.frozen) == [1, 2]
    assert not world.iteration
    assert world.status["handled"] == {"run": "now"}


def test_a_schedule_that_the_parser_refuses_stalls_the_cycle_with_its_words() -> None:
    world = World(spec=cycle_spec(trigger={"schedule": "0 0 31 4 *"}))
    observed = replace(world.observe(), problems=problems(world.spec))
    decided = plan(observed, world.now)
    stalled = next(row for row in decided.status.conditions if row.type == "Stalled")
    assert (stalled.status, stalled.reason) == ("True", "InvalidSpec")
    assert 'spec.trigger.schedule: "0 0 31 4 *": is not a cron schedule: Bad day-of-month' in stalled.message


def test_without_a_cluster_a_command_is_the_request_and_no_trigger_is_heeded() -> None:
    world = triggered(HOURLY)
    world.now = at(4)
    observed = world.observe()
    decided = plan(replace(observed, settings=replace(observed.settings, heed_triggers=False)), world.now)
    assert not decided.actions
    assert decided.status.next_run_at is None


def test_a_slot_can_start_until_the_last_second_of_its_deadline() -> None:
    world = triggered(HOURLY | {"startingDeadlineSeconds": 1200})
    world.now = at(4, 20)
    assert "ScheduleMissed" not in [event.reason for event in until_ended(world)]
    assert world.frozen[1].slot == "2026-11-23T04:00:00Z"


def test_a_missed_slot_says_what_was_not_ready() -> None:
    world = World(
        spec=cycle_spec(datasets=[{"name": "feedback"}], trigger=HOURLY | {"startingDeadlineSeconds": 600}),
        datasets={"feedback": None},
    )
    world.created = world.now = at(3, 30)
    until_ended(world)
    world.now = at(4, 11)
    (missed,) = until_ended(world)
    assert missed.reason == "ScheduleMissed"
    assert (
        "2026-11-23T04:00Z within 600 s: PreferenceDataset feedback: refresh 2 is running" in missed.message
    )


def test_a_slot_in_a_cooldown_is_caught_up_at_its_end_if_that_is_within_the_deadline() -> None:
    world = triggered({"schedule": "0 4,5 * * *", "cooldownSeconds": 7200})
    world.now = at(4)
    until_ended(world)
    assert world.status["nextRunAt"] == "2026-11-23T06:00:00Z"
    world.now = at(6)
    until_ended(world)
    assert world.frozen[2].slot == "2026-11-23T05:00:00Z"


def test_an_iteration_that_the_next_slot_must_wait_for_is_not_looked_at_for_its_sake() -> None:
    world = triggered(HOURLY)
    world.now = at(4)
    world.pass_()
    world.pass_()
    world.change(world.active()[0], pod=PodView(started=True))
    assert world.pass_().wake_at == at(6) + timedelta(seconds=1)


# --- new pairs


def test_enough_new_pairs_start_an_iteration_and_then_they_are_not_new() -> None:
    world = paired(499, {"newPairs": 500})
    until_ended(world)
    assert not world.iteration
    assert ready(world) == "499 of 500 new pairs are there"
    world.datasets["feedback"] = 500
    until_ended(world)
    assert (world.iteration["trigger"], world.iteration["outcome"]) == ("NewPairs", "Promoted")
    learned = {"name": "feedback", "pairs": 500, "uri": "pvc://data/feedback"}
    assert world.status["promoted"]["datasets"] == [learned], "its revision stays as long as the checkpoint"
    assert world.status["datasets"] == [{"name": "feedback", "newPairs": 0}]
    world.datasets["feedback"] = 999
    until_ended(world)
    assert world.status["datasets"] == [{"name": "feedback", "newPairs": 499}]
    assert world.iteration["number"] == 1


def test_pairs_of_a_refused_candidate_stay_new_but_only_newer_ones_trigger() -> None:
    world = paired(500, {"newPairs": 500}, quality="hacked")
    until_ended(world)
    assert world.iteration["outcome"] == "Rejected"
    for pairs in (500, 999):
        world.datasets["feedback"] = pairs
        until_ended(world)
        assert world.iteration["number"] == 1
        assert world.status["datasets"] == [{"name": "feedback", "newPairs": pairs}]
    assert ready(world) == "499 of 500 new pairs are there"
    world.datasets["feedback"] = 1000
    until_ended(world)
    assert world.iteration["number"] == 2


def test_pairs_of_all_datasets_are_added_up() -> None:
    world = World(
        spec=cycle_spec(datasets=[{"name": "a"}, {"name": "b"}], trigger={"newPairs": 10}),
        datasets={"a": 6, "b": 3},
    )
    until_ended(world)
    assert not world.iteration
    world.datasets["b"] = 4
    until_ended(world)
    assert world.iteration["trigger"] == "NewPairs"


def test_a_dataset_that_shrank_has_no_new_pairs_and_is_counted_from_there() -> None:
    world = paired(500, {"newPairs": 100})
    until_ended(world)
    world.datasets["feedback"] = 300
    until_ended(world)
    assert world.status["datasets"] == [{"name": "feedback", "newPairs": 0}]
    world.annotations["alignment.dev/run"] = "with fewer"
    until_ended(world)
    world.datasets["feedback"] = 400
    until_ended(world)
    assert (world.iteration["number"], world.iteration["trigger"]) == (3, "NewPairs")


def test_a_dataset_that_was_deleted_and_made_again_has_new_pairs_alone() -> None:
    world = World(
        spec=cycle_spec(datasets=[{"name": "feedback"}], trigger={"newPairs": 100}),
        datasets={"feedback": 500},
        folders={"feedback": "uid-1/revisions/1-20261123T000000Z"},
    )
    until_ended(world)
    world.datasets, world.folders = {"feedback": 99}, {"feedback": "uid-2/revisions/1-20261123T010000Z"}
    until_ended(world)
    assert world.status["datasets"] == [{"name": "feedback", "newPairs": 99}]
    assert ready(world) == "99 of 100 new pairs are there"
    world.datasets, world.folders = {"feedback": 100}, {"feedback": "uid-2/revisions/2-20261123T020000Z"}
    until_ended(world)
    assert (world.iteration["number"], world.iteration["trigger"]) == (2, "NewPairs")
    assert world.status["datasets"] == [{"name": "feedback", "newPairs": 0}]


def test_a_refresh_changes_no_count_and_a_due_slot_waits_for_it() -> None:
    world = paired(500, {"newPairs": 1000, **HOURLY})
    world.datasets["feedback"] = None
    world.now = at(4)
    until_ended(world)
    assert world.status["datasets"] == [{"name": "feedback", "newPairs": 500}]
    assert "PreferenceDataset feedback" in ready(world)
    decided = world.pass_()
    assert decided.wake_at == at(5) + timedelta(seconds=1)
    world.datasets["feedback"] = 500
    until_ended(world)
    assert world.iteration["trigger"] == "Schedule"


def test_new_pairs_wait_for_the_cooldown() -> None:
    world = paired(500, {"newPairs": 500, "cooldownSeconds": 3600})
    until_ended(world)
    world.datasets["feedback"] = 1000
    until_ended(world)
    assert world.iteration["number"] == 1
    assert world.pass_().wake_at == START + HOUR
    world.now = START + HOUR
    until_ended(world)
    assert world.iteration["number"] == 2


def test_killed_after_it_froze_an_iteration_for_new_pairs_it_takes_that_one_up() -> None:
    world = paired(500, {"newPairs": 500})
    world.pass_(crash_after=1)
    assert list(world.frozen) == [1]
    until_ended(world)
    assert list(world.frozen) == [1]
    assert world.iteration["outcome"] == "Promoted"


def test_pairs_that_were_worked_from_do_not_trigger_again_when_the_status_is_lost() -> None:
    world = paired(500, {"newPairs": 500}, quality="hacked")
    until_ended(world)
    world.status = {}
    until_ended(world)
    assert list(world.frozen) == [1]
    assert not world.iteration


def test_a_candidate_that_starts_from_the_initial_model_has_only_learned_from_its_own_datasets() -> None:
    world = World(
        spec=cycle_spec(policy={"model": "pvc://models/m0", "start": "Initial"}, datasets=[{"name": "a"}]),
        datasets={"a": 5},
        annotations={"alignment.dev/run": "1"},
    )
    until_ended(world)
    world.spec = cycle_spec(policy={"model": "pvc://models/m0", "start": "Initial"}, datasets=[{"name": "b"}])
    world.datasets, world.generation = {"b": 7}, 2
    world.annotations["alignment.dev/run"] = "2"
    until_ended(world)
    assert world.status["promoted"]["datasets"] == [{"name": "b", "pairs": 7, "uri": "pvc://data/b"}]


def test_what_one_dataset_has_lost_does_not_count_against_what_another_has_gained() -> None:
    world = World(
        spec=cycle_spec(datasets=[{"name": "a"}, {"name": "b"}], trigger={"newPairs": 300}),
        datasets={"a": 500, "b": 500},
    )
    world.pass_()
    until_ended(world)
    world.datasets = {"a": 200, "b": 800}
    until_ended(world)
    assert world.iteration["number"] == 2


def test_pairs_that_the_incumbent_knows_are_not_new_though_the_last_iteration_did_without() -> None:
    both, one = [{"name": "a"}, {"name": "b"}], [{"name": "a"}]
    world = World(spec=cycle_spec(datasets=both, trigger={"newPairs": 5}), datasets={"a": 5, "b": 5})
    world.pass_()
    until_ended(world)
    world.spec, world.datasets, world.generation = cycle_spec(datasets=one), {"a": 5}, 2
    world.annotations["alignment.dev/run"], world.quality = "with one", "hacked"
    until_ended(world)
    world.spec = cycle_spec(datasets=both, trigger={"newPairs": 5})
    world.datasets, world.generation = {"a": 5, "b": 5}, 3
    until_ended(world)
    assert world.iteration["number"] == 2
    assert ready(world) == "0 of 5 new pairs are there"


def test_of_a_slot_and_enough_pairs_the_slot_is_what_started_it_and_is_not_caught_up_again() -> None:
    world = World(
        spec=cycle_spec(datasets=[{"name": "a"}], trigger={"newPairs": 5} | HOURLY), datasets={"a": 4}
    )
    world.created = world.now = at(3, 30)
    world.pass_()
    world.datasets, world.now = {"a": 5}, at(4)
    until_ended(world)
    assert (world.iteration["trigger"], world.frozen[1].slot) == ("Schedule", "2026-11-23T04:00:00Z")


def test_new_pairs_that_wait_for_the_cooldown_are_looked_at_before_the_next_slot() -> None:
    trigger = {"newPairs": 5, "schedule": "0 12 * * *", "cooldownSeconds": 3600}
    world = World(spec=cycle_spec(datasets=[{"name": "a"}], trigger=trigger), datasets={"a": 5})
    world.pass_()
    until_ended(world)
    world.datasets = {"a": 10}
    decided = world.pass_()
    assert decided.wake_at == START + HOUR
    assert ready(world) == "next iteration at 2026-11-23T12:00Z; 5 of 5 new pairs are there"

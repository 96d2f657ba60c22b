"""`spec.suspend` at any moment: what runs is suspended, nothing new starts, and all goes on without loss."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from alignment_api.cycle_status import StageProgress, StageStatus
from alignment_api.stage import ExitCode
from alignment_operator.observed import JobState, PodView, TargetView
from alignment_operator.plan import suspension
from alignment_operator.planned import HoldJob, StartJob, SuspendJob
from tests.operator.plan_world import START, World, cycle_spec

RUN = {"alignment.dev/run": "1"}


def suspend(world: World, *, to: bool, **spec: Any) -> None:
    world.spec, world.generation = cycle_spec(suspend=to, **spec), world.generation + 1


def running(**spec: Any) -> World:
    """Its first stage computes."""
    world = World(spec=cycle_spec(**spec), annotations=dict(RUN))
    world.pass_()
    world.pass_()
    world.change(world.active()[0], pod=PodView(started=True))
    world.pass_()
    return world


def condition(world: World, type_: str) -> dict[str, str]:
    return next(entry for entry in world.status["conditions"] if entry["type"] == type_)


def test_the_running_job_is_suspended_and_said_to_be() -> None:
    world = running()
    (name,) = world.active()
    suspend(world, to=True)
    decided = world.pass_()
    assert decided.actions == (SuspendJob(name, world.jobs[name].view.uid, suspend=True),)
    assert [event.reason for event in decided.events] == ["Suspended"]
    stage = world.iteration["stages"][0]
    assert (stage["state"], stage["reason"]) == ("Pending", "Suspended")
    assert stage["message"] == "spec.suspend is true"
    assert condition(world, "Suspended")["status"] == "True"
    again = world.pass_()
    assert (again.actions, again.events) == ((), ()), "once"
    assert (condition(world, "Ready")["status"], condition(world, "Ready")["reason"]) == ("True", "Suspended")
    assert condition(world, "Iterating")["message"] == "iteration 1, stage sample is suspended"


def test_a_job_in_a_queue_is_held_by_its_workload_alone() -> None:
    world = running()
    (name,) = world.active()
    uid = world.jobs[name].view.uid
    world.change(name, queue="team-a")
    suspend(world, to=True)
    assert world.pass_().actions == (HoldJob(name, uid, hold=True),)
    assert world.pass_().actions == ()
    suspend(world, to=False)
    assert world.pass_().actions == (HoldJob(name, uid, hold=False),)
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def test_what_somebody_else_took_out_of_the_queue_stays_out() -> None:
    world = running()
    (name,) = world.active()
    world.change(name, queue="team-a", suspended=True, held=True)
    assert world.pass_().actions == ()
    suspend(world, to=True)
    assert world.pass_().actions == ()
    suspend(world, to=False)
    assert world.pass_().actions == ()


def test_what_was_held_just_before_a_crash_and_resumed_before_the_restart_is_let_in_again() -> None:
    world = running()
    (name,) = world.active()
    uid = world.jobs[name].view.uid
    world.change(name, queue="team-a")
    before = world.status
    suspend(world, to=True)
    world.pass_()
    world.status = before
    suspend(world, to=False)
    assert world.pass_().actions == (HoldJob(name, uid, hold=False),)
    assert world.pass_().actions == ()


def test_resumed_it_goes_on_with_the_same_job() -> None:
    world = running()
    (name,) = world.active()
    suspend(world, to=True)
    world.pass_()
    suspend(world, to=False)
    decided = world.pass_()
    assert decided.actions == (SuspendJob(name, world.jobs[name].view.uid, suspend=False),)
    assert [event.reason for event in decided.events] == ["Resumed"]
    assert "reason" not in world.iteration["stages"][0]
    world.settle()
    assert world.iteration["outcome"] == "Promoted"
    sample = world.iteration["stages"][0]
    assert (sample["job"], sample["attempt"], sample["disruptions"]) == (name, 0, 0)


def test_no_deadline_runs_while_it_is_suspended() -> None:
    world = running(defaults={"pendingDeadlineSeconds": 30})
    suspend(world, to=True, defaults={"pendingDeadlineSeconds": 30})
    world.pass_()
    world.now += timedelta(days=9)
    assert world.pass_().wake_at is None
    suspend(world, to=False, defaults={"pendingDeadlineSeconds": 30})
    world.pass_()
    world.now += timedelta(seconds=20)
    world.pass_()
    assert "outcome" not in world.iteration
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def test_a_pod_that_was_waited_for_has_the_whole_deadline_again() -> None:
    deadline = {"pendingDeadlineSeconds": 30}
    world = World(spec=cycle_spec(defaults=deadline), annotations=dict(RUN))
    world.pass_()
    world.pass_()
    world.now += timedelta(seconds=20)
    world.pass_()
    suspend(world, to=True, defaults=deadline)
    world.pass_()
    suspend(world, to=False, defaults=deadline)
    world.pass_()
    world.now += timedelta(seconds=20)
    world.pass_()
    assert "outcome" not in world.iteration


def test_a_stage_that_is_held_back_is_no_longer_on_its_way() -> None:
    world = running()
    (name,) = world.active()
    world.change(name, progress=StageProgress(done=3, total=9, unit="prompts"))
    world.pass_()
    assert world.iteration["stages"][0]["progress"]["done"] == 3
    suspend(world, to=True)
    world.pass_()
    assert "progress" not in world.iteration["stages"][0]


@pytest.mark.parametrize("ends", ["done", "deleted"])
def test_a_job_that_ends_anyway_is_not_suspended(ends: str) -> None:
    world = running()
    (name,) = world.active()
    if ends == "done":
        world.succeed(name)
    else:
        world.change(name, deleting=True)
    suspend(world, to=True)
    assert not any(isinstance(action, SuspendJob) for action in world.pass_().actions)


def test_another_job_of_the_same_name_that_has_ended_is_not_what_is_waited_for() -> None:
    world = running()
    (name,) = world.active()
    entry = StageStatus.from_wire(world.iteration["stages"][0])
    ended = replace(world.jobs[name].view, state=JobState.SUCCEEDED)
    assert suspension.paused(entry, [ended]) is None
    assert suspension.paused(entry, [replace(ended, uid="another")]) is not None


def test_a_retry_that_waited_says_no_longer_that_it_is_suspended() -> None:
    world = running()
    world.fail(world.active()[0], ExitCode.INPUT_MISSING)
    world.pass_()
    world.pass_()
    suspend(world, to=True)
    world.pass_()
    assert world.iteration["stages"][0]["reason"] == "Suspended"
    suspend(world, to=False)
    world.now += timedelta(minutes=1)
    world.reap()
    world.pass_()
    stage = world.iteration["stages"][0]
    assert stage["job"]
    assert "reason" not in stage
    assert "message" not in stage


@pytest.mark.parametrize("held", [True, False])
def test_a_spec_that_cannot_be_read_neither_suspends_nor_resumes(held: bool) -> None:
    world = running()
    if held:
        suspend(world, to=True)
        world.pass_()
    unread = replace(world.observe(), spec=None)
    assert suspension.holds(unread) == held
    assert suspension.follow(unread) == ()
    assert suspension.events(unread) == ()


def test_a_result_is_taken_note_of_but_the_next_stage_does_not_start() -> None:
    world = running()
    (name,) = world.active()
    suspend(world, to=True)
    world.succeed(name)
    for _ in range(5):
        assert not any(isinstance(action, StartJob) for action in world.pass_().actions)
    assert world.iteration["stages"][0]["state"] == "Succeeded"
    suspend(world, to=False)
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def test_a_retry_that_is_due_waits_too() -> None:
    world = running()
    world.fail(world.active()[0], ExitCode.INPUT_MISSING)
    suspend(world, to=True)
    for _ in range(5):
        world.now += timedelta(minutes=10)
        assert not any(isinstance(action, StartJob) for action in world.pass_().actions)
    suspend(world, to=False)
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def test_a_failure_before_the_suspension_is_a_failure() -> None:
    world = running()
    suspend(world, to=True)
    world.fail(world.active()[0], next(code for code in ExitCode if code.users_fault), "InputInvalid")
    world.pass_()
    assert world.iteration["reason"] == "InputInvalid"


def test_nothing_is_promoted_while_it_is_suspended() -> None:
    world = running()
    while not any("promote" in name for name in world.active()):
        for name in world.working():
            world.succeed(name)
        world.pass_()
    suspend(world, to=True)
    for name in world.working():
        world.succeed(name)
    for _ in range(5):
        world.pass_()
    assert "promoted" not in world.status
    suspend(world, to=False)
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


@pytest.mark.parametrize("verb", ["cancel", "reject"])
def test_a_person_can_end_a_suspended_iteration(verb: str) -> None:
    world = running()
    suspend(world, to=True)
    world.pass_()
    world.annotations[f"alignment.dev/{verb}"] = "1"
    world.settle()
    assert world.iteration["outcome"] in {"Cancelled", "Rejected"}
    assert not world.active()


def test_nothing_starts_and_a_request_is_kept_until_it_is_resumed() -> None:
    world = World(spec=cycle_spec(suspend=True), annotations=dict(RUN))
    world.settle()
    assert not world.jobs
    assert not world.iteration
    suspend(world, to=False)
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def test_a_slot_is_not_announced_and_is_caught_up_within_its_deadline() -> None:
    hourly = {"schedule": "0 * * * *", "startingDeadlineSeconds": 600}
    world = World(spec=cycle_spec(trigger=hourly))
    world.created = world.now = START + timedelta(minutes=30)
    world.pass_()
    suspend(world, to=True, trigger=hourly)
    world.now += timedelta(minutes=5)
    assert world.pass_().wake_at is None
    assert "nextRunAt" not in world.status
    world.now = START + timedelta(minutes=65)
    assert not world.pass_().actions
    suspend(world, to=False, trigger=hourly)
    world.pass_()
    assert world.frozen[1].slot == "2026-11-23T04:00:00Z"
    suspend(world, to=True, trigger=hourly)
    world.settle()
    suspend(world, to=False, trigger=hourly)
    world.settle()
    world.now = START + timedelta(hours=20, minutes=20)
    suspend(world, to=True, trigger=hourly)
    world.pass_()
    world.now += timedelta(hours=4)
    suspend(world, to=False, trigger=hourly)
    count = len(world.frozen)
    world.pass_()
    assert len(world.frozen) == count


def test_a_target_that_drifts_is_still_repaired() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    good = world.target
    suspend(world, to=True)
    world.target = TargetView("served", "uri", True, "pvc://elsewhere", good.digest, good.owner)
    world.settle()
    assert world.target == good

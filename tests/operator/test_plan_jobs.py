"""What the planner makes of a stage's Job, told as stories: losses, retries, deadlines, gangs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from alignment_api.stage import ExitCode
from alignment_operator.observed import PodView
from alignment_operator.planned import ExpireJob
from tests.operator.plan_world import World
from tests.operator.test_plan_cycle import started


def test_a_pod_on_a_lost_node_is_replaced_by_a_new_attempt_free_of_charge() -> None:
    world = started()
    name = world.active()[0]
    gone_by = world.now + timedelta(seconds=30)
    world.change(name, pod=PodView(started=True, gone_by=gone_by))
    decided = world.pass_()
    assert decided.wake_at == gone_by + timedelta(seconds=30)
    assert world.active() == [name]
    world.now = decided.wake_at
    world.pass_()
    assert not world.active()
    world.settle()
    first = world.iteration["stages"][0]
    assert world.iteration["outcome"] == "Promoted"
    assert (first["attempt"], first["disruptions"]) == (1, 1)


def gang(**changes: object) -> World:
    """An iteration whose training over two nodes has begun."""
    world = started(training={"nodes": 2}, **changes)
    while not any("-train-" in name for name in world.active()):
        for name in world.active():
            world.succeed(name)
        world.pass_()
    return world


def train(world: World) -> dict[str, Any]:
    return next(stage for stage in world.iteration["stages"] if stage["name"] == "train")


def test_a_gang_that_fails_is_tried_again_as_a_whole_as_often_as_one_pod_would_be() -> None:
    world = gang(defaults={"retries": 2})
    waits = []
    while "outcome" not in world.iteration:
        for name in world.active():
            world.fail(name, 1)
        decided = world.pass_()
        if decided.wake_at and decided.wake_at > world.now:
            waits.append((decided.wake_at - world.now).total_seconds())
            world.now = decided.wake_at
    assert (train(world)["attempt"], train(world)["failures"]) == (2, 2)
    assert waits[:1] + waits[2:3] == [10, 20]
    assert world.iteration["reason"] == "Crashed"


def test_a_gangs_disruptions_cost_no_retry() -> None:
    world = gang(defaults={"retries": 0})
    for _ in range(3):
        world.fail(next(iter(world.active())), 143, disrupted=True)
        world.pass_()
        world.pass_()
    assert (train(world)["attempt"], train(world)["disruptions"], train(world)["failures"]) == (3, 3, 0)
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def test_a_gangs_fault_of_the_users_is_not_tried_again_though_another_rank_failed_first() -> None:
    world = gang()
    world.fail(world.active()[0], ExitCode.INVALID_ROW, "InvalidRow")
    world.pass_()
    assert world.iteration["reason"] == "InvalidRow"
    assert not world.active()


def test_in_a_queue_a_stage_waits_as_long_as_it_takes_and_says_for_what() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 30, "queueName": "team-a"})
    (name,) = world.active()
    waits = PodView(pending="waits for admission in queue team-a: insufficient quota")
    world.change(name, suspended=True, queue="team-a", pod=waits)
    for _ in range(3):
        world.now += timedelta(hours=5)
        world.pass_()
    stage = world.iteration["stages"][0]
    assert (stage["state"], stage["message"]) == ("Pending", waits.pending)
    world.change(name, suspended=False, pod=PodView(pending="0/3 nodes"))
    world.pass_()
    world.now += timedelta(seconds=29)
    world.pass_()
    assert "outcome" not in world.iteration, "it has the whole deadline from its admission on"
    world.now += timedelta(seconds=2)
    world.pass_()
    assert world.iteration["reason"] == "PendingDeadlineExceeded"


def test_an_eviction_from_a_queue_is_neither_a_failure_nor_a_new_attempt() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 30, "queueName": "team-a"})
    (name,) = world.active()
    world.change(name, pod=PodView(started=True))
    world.pass_()
    assert world.iteration["stages"][0]["state"] == "Running"
    world.change(name, suspended=True, pod=PodView(pending="waits for admission in queue team-a"))
    world.now += timedelta(hours=5)
    world.pass_()
    stage = world.iteration["stages"][0]
    assert (stage["state"], stage["attempt"], stage["disruptions"]) == ("Pending", 0, 0)
    world.change(name, suspended=False, pod=None)
    world.settle()
    assert world.iteration["outcome"] == "Promoted"
    assert len([job for job in world.jobs if "-sample-" in job]) == 1


def test_a_stage_that_runs_too_long_fails_and_is_not_tried_again() -> None:
    world = gang(defaults={"activeDeadlineSeconds": 60})
    (name,) = world.active()
    world.fail(name, 143)
    world.change(name, failure="DeadlineExceeded")
    world.pass_()
    assert world.iteration["reason"] == "DeadlineExceeded"
    assert "60" in world.iteration["message"]
    assert not world.active()


def test_a_job_gets_its_ttl_only_when_its_result_is_in_status() -> None:
    world = started()
    (name,) = world.active()
    world.succeed(name)
    taking_note = world.pass_()
    assert world.iteration["stages"][0]["result"]
    assert not any(isinstance(action, ExpireJob) for action in taking_note.actions)
    assert [action.name for action in world.pass_().actions if isinstance(action, ExpireJob)] == [name]


def test_a_lost_node_of_a_suspended_job_is_not_waited_for_either() -> None:
    world = started(defaults={"queueName": "team-a"})
    (name,) = world.active()
    gone_by = world.now + timedelta(seconds=30)
    world.change(name, suspended=True, queue="team-a", pod=PodView(gone_by=gone_by))
    world.now += timedelta(seconds=61)
    world.pass_()
    assert world.iteration["stages"][0]["disruptions"] == 1

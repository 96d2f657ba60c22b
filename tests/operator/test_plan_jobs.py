"""What the planner makes of a stage's Job, told as stories: losses, retries, deadlines, gangs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from alignment_api.cycle_status import StageProgress
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


def test_a_missing_input_is_looked_for_ever_more_seldom_and_at_least_once_a_minute() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 3600})
    waits = []
    for _ in range(6):
        world.fail(world.active()[0], ExitCode.INPUT_MISSING, "InputMissing")
        decided = world.pass_()
        assert decided.wake_at is not None
        waits.append((decided.wake_at - world.now).total_seconds())
        world.reap()
        world.now = decided.wake_at - timedelta(seconds=1)
        assert world.pass_().wake_at == decided.wake_at
        assert not world.active(), "a second too early"
        world.now = decided.wake_at
        world.pass_()
    assert waits == [5, 10, 20, 40, 60, 60]
    assert "retryAt" not in world.iteration["stages"][0]


def test_a_missing_input_is_given_up_at_the_deadline_and_not_before() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 30})
    (name,) = world.active()
    world.now += timedelta(seconds=29)
    world.fail(name, ExitCode.INPUT_MISSING, "InputMissing")
    decided = world.pass_()
    assert "outcome" not in world.iteration
    assert decided.wake_at is not None
    world.reap()
    world.now = decided.wake_at
    world.pass_()
    world.fail(world.active()[0], ExitCode.INPUT_MISSING, "InputMissing")
    world.pass_()
    assert world.iteration["reason"] == "InputMissing"


@pytest.mark.parametrize("late", [False, True])
def test_a_pod_that_does_not_start_has_exactly_its_deadline(late: bool) -> None:
    world = started(defaults={"pendingDeadlineSeconds": 30})
    deadline = world.now + timedelta(seconds=30)
    assert world.pass_().wake_at == deadline
    world.now = deadline if late else deadline - timedelta(seconds=1)
    world.pass_()
    assert ("outcome" in world.iteration) == late
    if late:
        assert "no worker has started within 30 s: no pod was made" in world.iteration["message"]


def test_a_gangs_waits_grow_no_longer_than_six_minutes() -> None:
    world = gang(defaults={"retries": 7})
    waits = []
    for _ in range(7):
        world.fail(world.active()[0], 1)
        decided = world.pass_()
        assert decided.wake_at is not None
        waits.append((decided.wake_at - world.now).total_seconds())
        world.now = decided.wake_at
        world.pass_()
    assert waits == [10, 20, 40, 80, 160, 320, 360]
    assert world.active()


def test_twenty_lost_attempts_are_borne_and_not_one_more() -> None:
    world = started()
    for lost in range(1, 22):
        world.fail(world.active()[0], 143, disrupted=True)
        world.pass_()
        assert ("outcome" in world.iteration) == (lost == 21)
        if lost < 21:
            world.pass_()
    assert "21 attempts were lost, the last because Job " in world.iteration["message"]


def test_the_next_attempt_begins_with_nothing_of_the_last_one() -> None:
    world = started()
    (name,) = world.active()
    world.change(
        name,
        failures=2,
        pod=PodView(started=True),
        progress=StageProgress(done=1, total=2, unit="prompts"),
    )
    world.pass_()
    first = world.iteration["stages"][0]
    assert (first["state"], first["retries"], first["progress"]["done"]) == ("Running", 2, 1)
    world.fail(name, 143, disrupted=True)
    world.pass_()
    second = world.iteration["stages"][0]
    assert (second["state"], second["attempt"], second["retries"]) == ("Pending", 1, 0)
    assert not {"job", "jobUID", "progress"} & set(second)
    assert second["message"] == f"Job {name} was disrupted"


def test_what_was_last_said_of_the_progress_stands_while_the_job_runs_and_not_afterwards() -> None:
    world = started()
    (name,) = world.active()
    progress = StageProgress(done=1, total=2, unit="prompts")
    world.change(name, pod=PodView(started=True), progress=progress)
    world.pass_()
    world.change(name, progress=None)
    world.pass_()
    assert world.iteration["stages"][0]["progress"]["done"] == 1
    world.succeed(name)
    world.pass_()
    done = world.iteration["stages"][0]
    assert (done["state"], done["finishedAt"]) == ("Succeeded", "2026-11-23T03:00:00Z")
    assert not {"progress", "pendingSince", "message"} & set(done)


def test_a_stage_that_runs_says_no_longer_why_it_waited() -> None:
    world = started()
    (name,) = world.active()
    world.change(name, pod=PodView(pending="0/3 nodes are available"))
    world.pass_()
    assert world.iteration["stages"][0]["message"] == "0/3 nodes are available"
    world.change(name, pod=PodView(pending=""))
    world.pass_()
    assert world.iteration["stages"][0]["message"] == "0/3 nodes are available", (
        "till something else is known"
    )
    world.change(name, pod=PodView(started=True))
    world.pass_()
    assert not {"message", "pendingSince", "reason"} & set(world.iteration["stages"][0])


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (137, "JobFailed", "has reached the specified backoff limit (exit code 137)"),
        (None, "JobFailed", "has reached the specified backoff limit"),
        (int(ExitCode.INVALID_ROW), "InvalidRow", "has reached the specified backoff limit"),
    ],
)
def test_a_worker_that_left_no_word_is_told_of_by_the_job_and_its_exit_code(
    code: int | None, reason: str, said: str
) -> None:
    world = started()
    (name,) = world.active()
    world.fail(name, 1)
    pod = PodView(code, "", started=True) if code is not None else None
    world.change(name, pod=pod, message="Job has reached the specified backoff limit")
    world.pass_()
    failed = world.iteration["stages"][0]
    assert (failed["reason"], failed["message"]) == (reason, f"Job {said}")
    assert failed["finishedAt"] == "2026-11-23T03:00:00Z"


def test_no_word_at_all_names_the_job() -> None:
    world = started()
    (name,) = world.active()
    world.fail(name, 1)
    world.change(name, pod=None, message="")
    world.pass_()
    assert world.iteration["stages"][0]["message"] == f"Job {name} failed"


def test_words_of_any_length_fit_the_status() -> None:
    world = started()
    (name,) = world.active()
    world.change(name, pod=PodView(pending="x" * 5000))
    world.pass_()
    assert len(world.iteration["stages"][0]["message"]) == 4096
    world.fail(name, 1)
    world.change(name, pod=None, message="y" * 5000)
    world.pass_()
    assert world.iteration["stages"][0]["message"] == "y" * 4096


def test_a_lost_nodes_pod_is_looked_at_when_its_time_comes_though_it_does_not_run_yet() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 3600})
    (name,) = world.active()
    gone_by = world.now + timedelta(seconds=30)
    world.change(name, pod=PodView(pending="ContainerCreating", gone_by=gone_by))
    assert world.pass_().wake_at == gone_by + timedelta(seconds=30)
    world.change(name, suspended=True, queue="team-a")
    assert world.pass_().wake_at == gone_by + timedelta(seconds=30)


def test_a_gang_that_ran_out_of_time_or_of_the_users_making_is_not_tried_again() -> None:
    for failure, code in (("DeadlineExceeded", 1), ("PodFailurePolicy", ExitCode.TRAINING_DIVERGED)):
        world = gang(defaults={"retries": 5})
        (name,) = world.active()
        world.fail(name, code)
        world.change(name, failure=failure)
        world.pass_()
        assert world.iteration["outcome"] == "Failed"


def test_a_training_that_diverged_goes_on_with_its_last_sound_checkpoint_and_says_so() -> None:
    world = gang()
    for name in world.active():
        world.succeed(name, steps=30, divergedAtStep=37)
    decided = world.pass_()
    said = "training diverged at step 37; the model is that of step 30, its last sound checkpoint"
    assert (train(world)["state"], train(world)["message"]) == ("Succeeded", said)
    (event,) = [event for event in decided.events if event.warning]
    assert (event.reason, event.message) == ("TrainingDiverged", f"iteration 1: stage train: {said}")
    world.settle()
    assert world.iteration["outcome"] == "Promoted"
    assert train(world)["message"] == said

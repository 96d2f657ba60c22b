"""What the planner does at the edges of its rules, where one condition more or less would not be noticed elsewhere."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta

import pytest

from alignment_api.stage import ExitCode, Located, Stage, StageReport
from alignment_operator.observed import JobState, PodView, TargetView
from alignment_operator.planned import DeleteJob, StartJob
from tests.operator.plan_world import World, cycle_spec
from tests.operator.test_plan_cycle import RUN, condition, started


def until(world: World, stage: str) -> str:
    """Passes until the stage's Job is there; its name."""
    while not any(f"-{stage}-" in name for name in world.active()):
        for name in world.active():
            world.succeed(name)
        world.pass_()
    return world.active()[0]


def reported(world: World, name: str, **changes: object) -> None:
    """The Job has succeeded with another result than it would have had."""
    world.succeed(name)
    pod = world.jobs[name].view.pod
    assert pod is not None
    result = StageReport.decode(pod.report).result
    assert result is not None
    changed = result.model_copy(update=changes)
    world.change(name, pod=replace(pod, report=StageReport(result=changed).encode()))


def test_an_approval_of_another_iteration_promotes_nothing_whatever_evidence_it_names() -> None:
    world = World(annotations=dict(RUN), quality="unclear")
    world.settle()
    world.annotations["alignment.dev/approve"] = f"2@{world.iteration['evidenceDigest']}"
    world.settle()
    assert condition(world, "WaitingForApproval")["status"] == "True"
    assert "promoted" not in world.status


def test_an_approval_that_cannot_be_read_promotes_nothing() -> None:
    world = World(annotations=dict(RUN), quality="unclear")
    world.settle()
    world.annotations["alignment.dev/approve"] = "1"
    assert [event.reason for event in world.pass_().events] == ["InvalidAnnotation"]
    world.settle()
    assert condition(world, "WaitingForApproval")["status"] == "True"


def test_a_rejection_of_another_iteration_is_not_of_this_one() -> None:
    world = started()
    world.annotations["alignment.dev/reject"] = "2"
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def test_a_request_for_an_iteration_that_is_over_is_told_once_to_be_in_vain() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    world.annotations["alignment.dev/cancel"] = "1"
    assert [event.reason for event in world.pass_().events] == ["InvalidAnnotation"]
    assert world.status["handled"]["cancel"] == "1"
    assert not world.pass_().events
    assert world.iteration["outcome"] == "Promoted"


def test_an_iteration_computes_to_its_end_with_the_image_it_began_with() -> None:
    world = started(defaults={"image": "worker:1"})
    world.spec = cycle_spec(defaults={"image": "worker:2"}, stages={"judge": {"image": "worker:3"}})
    world.succeed(world.active()[0])
    begun = [action for _ in range(3) for action in world.pass_().actions if isinstance(action, StartJob)]
    assert [(start.config.stage, start.pods.image) for start in begun] == [(Stage.JUDGE, "worker:1")]


def test_the_digest_of_what_was_promoted_is_not_taken_for_that_of_the_first_model() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    promoted = world.status["promoted"]["digest"]
    world.status = {}
    world.annotations["alignment.dev/adopt"] = promoted
    world.annotations["alignment.dev/run"] = "2"
    name = until(world, "sample")
    reported(world, name, inputs={"policy": promoted})
    world.pass_()
    assert world.iteration["stages"][0]["state"] == "Succeeded"
    assert "initial" not in world.status


def test_a_job_of_the_right_name_that_is_not_the_one_that_was_started_is_not_believed() -> None:
    world = started()
    name = world.active()[0]
    world.succeed(name)
    world.change(name, uid="another")
    world.pass_()
    sample = world.iteration["stages"][0]
    assert (sample["state"], sample["attempt"], sample["disruptions"]) == ("Pending", 1, 1)


def test_a_live_job_in_the_place_of_the_one_that_was_started_is_deleted_at_once() -> None:
    world = started()
    name = world.active()[0]
    world.change(name, uid="another")
    assert DeleteJob(name, "another") in world.pass_().actions


def test_a_job_on_its_way_out_is_neither_late_nor_done() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 30})
    name = world.active()[0]
    world.change(name, deleting=True)
    world.now += timedelta(hours=2)
    world.pass_()
    assert "outcome" not in world.iteration
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def test_training_that_reports_no_model_did_nothing() -> None:
    world = started()
    reported(world, until(world, "train"), model=None)
    world.pass_()
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Failed", "NoWorkDone")
    assert "stage train reports no model" in world.iteration["message"]


def test_a_stage_that_ran_too_long_says_which_limit_it_hit() -> None:
    world = started(defaults={"activeDeadlineSeconds": 600})
    said = "Job was active longer than specified deadline"
    world.change(world.active()[0], state=JobState.FAILED, failure="DeadlineExceeded", message=said)
    world.pass_()
    assert world.iteration["reason"] == "DeadlineExceeded"
    assert "ran longer than activeDeadlineSeconds 600" in world.iteration["message"]


def test_each_look_for_a_missing_input_counts_towards_the_same_deadline_and_leaves_no_job() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 60})
    for _ in range(30):
        for name in world.active():
            world.change(name, pod=PodView(started=True))
            world.pass_()
            world.fail(name, ExitCode.INPUT_MISSING, "InputMissing")
        world.now += timedelta(seconds=5)
        world.pass_()
        world.reap()
        assert len(world.jobs) <= 1
    assert world.iteration["reason"] == "InputMissing"


def test_a_target_that_lost_the_digest_alone_is_repaired() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    good = world.target
    world.target = replace(good, digest=None)
    world.settle()
    assert world.target == good


def test_what_is_adopted_long_after_its_promotion_is_still_known_by_its_iteration() -> None:
    """That number is what the stage `collect` is told to keep."""
    world = World(annotations=dict(RUN))
    world.settle()
    world.quality = "hacked"
    for run in range(2, 8):
        world.annotations["alignment.dev/run"] = str(run)
        world.settle()
    assert (world.iteration["number"], world.iteration["outcome"]) == (7, "Rejected")
    before = world.status["promoted"]
    world.status = {}
    world.annotations["alignment.dev/adopt"] = before["digest"]
    world.settle()
    after = world.status["promoted"]
    assert (after["iteration"], after["uri"]) == (before["iteration"], before["uri"]) == (1, before["uri"])


@pytest.mark.parametrize("rolled_back", [True, None])
def test_that_what_is_adopted_came_by_a_rollback_is_found_again(rolled_back: bool | None) -> None:
    """An iteration started from what a later one had promoted; the next promotion takes an approval, as before."""
    world = World(annotations=dict(RUN))
    world.settle()
    first = world.target
    for run in ("2", "3"):
        world.annotations["alignment.dev/run"] = run
        world.settle()
    if rolled_back:
        world.annotations["alignment.dev/rollback"] = "1@ticket"
        world.settle()
        assert world.target == first
    before = world.status["promoted"]
    assert before.get("rolledBack") == rolled_back
    world.status = {}
    world.annotations["alignment.dev/adopt"] = before["digest"]
    world.settle()
    after = world.status["promoted"]
    assert (after["iteration"], after.get("rolledBack")) == (before["iteration"], rolled_back)


def test_a_request_is_not_acted_on_again_when_an_older_status_is_put_back() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    older = copy.deepcopy(world.status)
    world.annotations["alignment.dev/run"] = "2"
    world.settle()
    assert world.status["promoted"]["iteration"] == 2
    world.status = older
    world.pass_()
    world.annotations["alignment.dev/adopt"] = world.target.digest or ""
    world.settle()
    assert world.status["promoted"]["iteration"] == 2
    assert max(world.frozen) == 2


def test_what_an_iteration_started_from_is_not_adopted_while_a_target_serves_something_else() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    first = world.status["promoted"]["digest"]
    world.annotations["alignment.dev/run"] = "2"
    world.settle()
    served = world.target
    assert served.digest != first
    world.status = {}
    world.annotations["alignment.dev/adopt"] = first
    reasons = {event.reason for _ in range(3) for event in world.pass_().events}
    assert "InvalidAnnotation" in reasons
    assert condition(world, "Stalled")["reason"] == "PromotionRecordLost"
    assert world.target == served


def test_adopt_changes_nothing_while_the_record_stands() -> None:
    world = World(spec=cycle_spec(promotion={"targets": []}), annotations=dict(RUN))
    world.settle()
    first = world.status["promoted"]["digest"]
    world.annotations["alignment.dev/run"] = "2"
    world.settle()
    promoted = world.status["promoted"]
    world.annotations["alignment.dev/adopt"] = first
    (event,) = world.pass_().events
    assert (event.reason, event.message) == ("InvalidAnnotation", f"adopt {first}: the record is not lost")
    world.settle()
    assert world.status["promoted"] == promoted


def test_an_iteration_that_ends_a_second_time_is_in_the_history_once() -> None:
    world = World(annotations=dict(RUN), quality="hacked")
    world.settle()
    del world.iteration["outcome"]
    world.settle()
    assert world.iteration["outcome"] == "Rejected"
    assert [row["number"] for row in world.status["history"]] == [1]


@pytest.mark.parametrize(("keep", "remembered"), [(1, [6, 5, 4, 3, 2]), (6, [6, 5, 4, 3, 2, 1])])
def test_so_many_promotions_are_remembered(keep: int, remembered: list[int]) -> None:
    world = World(spec=cycle_spec(history={"keepPromoted": keep}))
    for run in range(1, 8):
        world.annotations["alignment.dev/run"] = str(run)
        world.settle()
    assert world.status["promoted"]["iteration"] == 7
    assert [promotion["iteration"] for promotion in world.status["promotions"]] == remembered


def test_what_was_frozen_from_another_incumbent_is_not_taken_up_again() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    world.annotations["alignment.dev/run"] = "2"
    world.pass_(crash_after=1)
    assert 2 in world.frozen
    by_hand = f"sha256:{'b' * 64}"
    world.target = TargetView("served", "uri", True, "pvc://models/by-hand", by_hand, world.target.owner)
    world.annotations["alignment.dev/adopt"] = by_hand
    world.settle()
    assert (world.iteration["number"], world.iteration["outcome"]) == (3, "Promoted")
    assert world.frozen[3].incumbent == Located(uri="pvc://models/by-hand", digest=by_hand)


def test_no_number_is_used_twice_though_jobs_alone_remember_it() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    backup = world.status
    world.quality = "hacked"
    world.annotations["alignment.dev/run"] = "2"
    world.settle()
    assert world.iteration["number"] == 2
    world.status = backup
    del world.frozen[2]
    world.annotations["alignment.dev/run"] = "3"
    world.settle()
    assert world.iteration["number"] == 3


@pytest.mark.parametrize("verb", ["cancel", "reject"])
def test_the_pass_that_ends_an_iteration_deletes_its_live_job_and_no_finished_one(verb: str) -> None:
    world = started()
    name = until(world, "judge")
    world.annotations[f"alignment.dev/{verb}"] = "1"
    assert world.pass_().actions == (DeleteJob(name, world.jobs[name].view.uid),)
    world.settle()
    assert not world.active()
    assert next(job.view for job in world.jobs.values() if job.config.stage == Stage.SAMPLE).ttl_set

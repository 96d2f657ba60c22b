"""What the planner does with one cycle, told as stories."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from alignment_api.cycle_status import AlignmentCycleStatus
from alignment_api.pods import PodDefaults
from alignment_api.stage import ExitCode, Expected, Located, Stage, StageReport, TrainParameters
from alignment_operator.observed import JobState, PodView, TargetView
from alignment_operator.plan import evidence
from alignment_operator.planned import Action, ExpireJob, StartJob
from tests.api.manifests import PUBLIC_KEY
from tests.operator.plan_world import World, cycle_spec

RUN = {"alignment.dev/run": "1"}


def started(**changes: object) -> World:
    world = World(spec=cycle_spec(**changes), annotations=dict(RUN))
    world.pass_()
    world.pass_()
    return world


def stages(world: World) -> list[str]:
    return [stage["name"] for stage in world.iteration["stages"]]


def condition(world: World, type_: str) -> dict[str, str]:
    return next(entry for entry in world.status["conditions"] if entry["type"] == type_)


def until_held(world: World) -> None:
    while condition(world, "WaitingForApproval")["status"] != "True":
        for name in world.active():
            world.succeed(name)
        world.pass_()


def test_nothing_starts_without_the_run_annotation() -> None:
    world = World()
    world.settle()
    assert not world.jobs
    assert condition(world, "Ready")["reason"] == "Idle"


def test_a_good_candidate_is_promoted_and_its_target_follows() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    assert world.iteration["outcome"] == "Promoted"
    assert world.iteration["reason"] == "AllGatesPassed"
    assert stages(world) == ["sample", "judge", "train", "evaluate", "compare", "promote"]
    assert world.status["promoted"]["digest"] == world.iteration["candidate"]["digest"] == world.target.digest
    assert world.target.value == world.status["promoted"]["uri"]
    assert condition(world, "Promoted")["status"] == "True"
    assert condition(world, "TargetsSynced")["status"] == "True"


def test_what_is_contaminated_is_refused_by_the_first_stage_that_finds_it() -> None:
    world = started(gates={"contamination": {"action": "Fail"}})
    (sample,) = world.active()
    world.succeed(sample, promptsGiven=400, excluded=2)
    world.settle()
    assert stages(world) == ["sample"]
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Rejected", "Contaminated")
    assert world.iteration["message"].startswith("refused by contamination: 2 of 400 prompts hold gold")
    assert [gate["name"] for gate in world.iteration["gates"]] == ["contamination"]
    assert condition(world, "Ready")["status"] == "True"


def test_a_stage_that_will_not_train_on_leaked_rows_is_the_gates_refusal() -> None:
    world = started(gates={"contamination": {"action": "Fail"}})
    (name,) = world.active()
    world.fail(name, ExitCode.CONTAMINATED, "Contaminated")
    world.settle()
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Rejected", "Contaminated")
    assert world.iteration["message"] == "refused by contamination: Contaminated it is"
    assert [(gate["name"], gate["verdict"]) for gate in world.iteration["gates"]] == [
        ("contamination", "Failed")
    ]
    assert condition(world, "Ready")["status"] == "True"


def test_a_refused_candidate_leaves_the_incumbent_and_a_healthy_cycle() -> None:
    world = World(annotations=dict(RUN), quality="hacked")
    world.settle()
    assert world.iteration["outcome"] == "Rejected"
    assert world.iteration["reason"] == "RewardHacking"
    assert "promoted" not in world.status
    assert not world.target.exists
    assert condition(world, "Promoted")["status"] == "False"
    assert condition(world, "Ready")["status"] == "True"


def test_the_second_iteration_starts_from_the_first_ones_model() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    first = world.status["promoted"]
    world.annotations["alignment.dev/run"] = "2"
    world.pass_()
    world.pass_()
    config = next(job.config for job in world.jobs.values() if job.config.iteration == 2)
    assert (config.inputs["policy"].uri, config.inputs["policy"].digest) == (first["uri"], first["digest"])
    world.settle()
    assert world.status["promoted"]["iteration"] == 2
    assert [row["number"] for row in world.status["history"]] == [2, 1]


@pytest.mark.parametrize("reference", ["Previous", "Initial"])
def test_iterations_start_from_what_is_promoted_and_a_refused_one_leaves_no_trace_in_the_next(
    reference: str,
) -> None:
    world = World(spec=cycle_spec(policy={"model": "pvc://models/m0", "reference": reference}))
    for number, quality in enumerate(("good", "hacked", "good", "good"), start=1):
        before = world.status.get("promoted")
        world.quality = quality
        world.annotations["alignment.dev/run"] = str(number)
        world.settle()
        initial = world.status["initial"]
        serving = before or initial
        configs = {
            job.config.stage: job.config for job in world.jobs.values() if job.config.iteration == number
        }
        sampled, measured = (configs[stage].inputs["policy"] for stage in (Stage.SAMPLE, Stage.EVALUATE))
        start, anchor = (configs[Stage.TRAIN].inputs[role] for role in ("start", "reference"))
        assert sampled.uri == measured.uri == start.uri == serving["uri"]
        assert measured.digest == start.digest == serving["digest"]
        assert anchor.digest == (serving if reference == "Previous" else initial)["digest"]
        given = {input_.uri for config in configs.values() for input_ in config.inputs.values()}
        assert number == 2 or not any("/iterations/2/" in uri for uri in given)
        assert (world.status.get("promoted") == before) == (quality == "hacked")


def test_the_first_stage_is_given_every_input_and_later_ones_verify_what_it_found() -> None:
    world = started()
    sample = next(iter(world.jobs.values())).config
    assert set(sample.inputs) == {"policy", "prompts", "goldSet", "heldOutPrompts", "judge"}
    assert all(input_.digest is None for input_ in sample.inputs.values())
    world.settle()
    evaluate = next(job.config for job in world.jobs.values() if job.config.stage == Stage.EVALUATE)
    assert all(input_.digest for input_ in evaluate.inputs.values())
    assert evaluate.inputs["goldSet"].digest == world.iteration["inputs"]["goldSet"]


def test_near_duplicates_are_looked_for_by_the_stage_that_trains() -> None:
    embedding = {"model": "pvc://models/embedding", "minSimilarityPercent": 85}
    world = started(gates={"contamination": {"embedding": embedding}})
    world.settle()
    configs = {job.config.stage: job.config for job in world.jobs.values()}
    needs = {"embedding", "prompts", "goldSet", "heldOutPrompts"}
    assert needs <= set(configs[Stage.TRAIN].inputs)
    assert configs[Stage.TRAIN].inputs["embedding"].digest, "the first stage found it"
    assert configs[Stage.TRAIN].to_wire()["parameters"]["nearPercent"] == 85
    assert "embedding" not in configs[Stage.EVALUATE].inputs
    plain = started(gates={"contamination": {}})
    plain.settle()
    for job in plain.jobs.values():
        assert "embedding" not in job.config.inputs
        assert "nearPercent" not in job.config.to_wire()["parameters"], "equal configs keep their hash"


def test_the_first_stage_alone_is_told_what_the_gates_will_need_of_the_inputs() -> None:
    world = started(gates={"winRate": {}, "goldSet": {"categories": [{"name": "code", "maxDropPoints": 1}]}})
    world.settle()
    expected = {job.config.stage: job.config.expected for job in world.jobs.values()}
    assert expected.pop(Stage.SAMPLE) == Expected(
        held_out_prompts=100, gold_categories=["code"], max_length=1024
    )
    assert set(expected.values()) == {None}


@pytest.mark.parametrize(
    ("spec", "graded"),
    [
        ({}, {"evaluate"}),
        ({"judge": {"verifier": {}}}, {"judge", "evaluate", "compare"}),
        ({"judge": {"rewardModel": {"uri": "pvc://m/r"}, "shortCorrectPercent": 10}}, {"judge", "evaluate"}),
        (
            {"training": {"method": "PPO"}, "sampling": {}, "judge": {"verifier": {}}},
            {"train", "evaluate", "compare"},
        ),
        ({"comparison": {"judge": {"verifier": {}}}}, {"evaluate", "compare"}),
    ],
)
def test_stages_that_ask_a_rows_own_grader_may_run_code_where_the_spec_says_so(
    spec: dict[str, Any], graded: set[str]
) -> None:
    spec = dict(spec)
    comparison = spec.pop("comparison", {})
    for grader in ({"resources": {"limits": {"memory": "2Gi"}}}, None):
        evaluation = cycle_spec().evaluation.to_wire() | {"comparison": comparison}
        if grader:
            evaluation["pythonGrader"] = grader
        world = World(spec=cycle_spec(**spec, evaluation=evaluation), annotations={"alignment.dev/run": "1"})
        world.settle()
        configs = [job.config for job in world.jobs.values()]
        given = {made.stage.value: made.python_grader for made in configs if made.python_grader}
        assert set(given) == (graded if grader else set())
        assert all(made.to_wire() == grader for made in given.values())
        allowed = [made.expected.python_grader for made in configs if made.expected]
        assert allowed == [grader is not None]


def test_an_offline_cycle_trains_without_sampling() -> None:
    world = World(
        spec=cycle_spec(prompts=None, judge=None, gates={}, datasets=[{"name": "pairs"}]),
        annotations=dict(RUN),
    )
    world.settle()
    assert stages(world) == ["train", "evaluate", "compare", "promote"]
    assert trained_with(world).sampled_by is None


@pytest.mark.parametrize("reference", ["Previous", "Initial"])
def test_training_is_told_which_model_was_sampled(reference: str) -> None:
    """The incumbent: the reference too, unless that is M_0 and the incumbent no longer is."""
    world = started(policy={"model": "pvc://models/m0", "reference": reference})
    world.settle()
    world.annotations["alignment.dev/run"] = "2"
    world.settle()
    for number in (1, 2):
        train = next(
            job.config
            for job in world.jobs.values()
            if (job.config.stage, job.config.iteration) == (Stage.TRAIN, number)
        )
        assert isinstance(train.parameters, TrainParameters)
        assert train.parameters.sampled_by == train.inputs["start"].digest
        anchored_to_it = train.parameters.sampled_by == train.inputs["reference"].digest
        assert anchored_to_it == (reference == "Previous" or number == 1)


def trained_with(world: World) -> TrainParameters:
    train = next(job.config for job in world.jobs.values() if job.config.stage == Stage.TRAIN)
    assert isinstance(train.parameters, TrainParameters)
    return train.parameters


def test_ppo_samples_and_scores_in_the_stage_train() -> None:
    world = World(spec=cycle_spec(training={"method": "PPO"}, sampling={}), annotations=dict(RUN))
    world.settle()
    assert world.iteration["outcome"] == "Promoted"
    assert stages(world) == ["train", "evaluate", "compare", "promote"]
    train = next(job.config for job in world.jobs.values() if job.config.stage == Stage.TRAIN)
    assert {"start", "reference", "prompts", "judge", "goldSet", "heldOutPrompts"} <= set(train.inputs)
    assert train.expected is not None
    parameters = train.to_wire()["parameters"]
    assert parameters["training"]["learningRate"] == 1e-6
    assert parameters["training"]["ppo"]["targetKL"] == 0.1
    assert parameters["online"]["sampling"]["seed"] == 1  # from the iteration number
    assert "rewardModel" in parameters["online"]["judge"]


def test_an_edit_meanwhile_applies_to_the_next_iteration() -> None:
    world = started()
    world.spec = cycle_spec(training={"beta": 0.5})
    world.generation = 2
    world.settle()
    train = next(job.config for job in world.jobs.values() if job.config.stage == Stage.TRAIN)
    assert train.to_wire()["parameters"]["training"]["beta"] == 0.1
    assert world.iteration["generation"] == 1


def test_status_names_the_edit_that_applies_from_the_next_iteration() -> None:
    world = started()
    world.spec = cycle_spec(training={"beta": 0.5}, promotion={"mode": "Manual"})
    world.generation = 2
    world.pass_()
    said = condition(world, "Iterating")["message"]
    assert "spec.training, spec.promotion of generation 2 applies from the next iteration" in said


def test_edits_that_are_live_are_not_said_to_wait() -> None:
    world = started()
    world.spec = cycle_spec(
        trigger={"schedule": "0 3 * * 1"},
        history={"iterations": 3},
        promotion={"targets": []},
        defaults={"retries": 7},
        stages={"train": {"resources": {"limits": {"memory": "9Gi"}}}},
    )
    world.generation = 2
    world.pass_()
    assert condition(world, "Iterating")["message"] == "iteration 1, stage sample"


def test_an_image_that_was_edited_waits_for_the_next_iteration() -> None:
    world = started()
    world.spec = cycle_spec(defaults={"image": "worker:2"}, stages={"train": {"image": "worker:3"}})
    world.generation = 2
    world.pass_()
    said = condition(world, "Iterating")["message"]
    assert "spec.defaults.image, spec.stages.train.image of generation 2" in said


def test_a_stage_whose_image_was_taken_out_of_the_spec_keeps_it_until_the_next_iteration() -> None:
    world = started(stages={"train": {"image": "worker:3"}})
    world.spec = cycle_spec()
    world.generation = 2
    world.pass_()
    assert "spec.stages.train.image of generation 2" in condition(world, "Iterating")["message"]


def test_promote_asks_for_no_accelerator_and_each_stage_keeps_its_ttl() -> None:
    world = World(
        spec=cycle_spec(
            defaults={"resources": {"limits": {"cpu": "2", "nvidia.com/gpu": "1"}}},
            stages={"train": {"ttlSecondsAfterFinished": 7}},
        ),
        annotations=dict(RUN),
    )
    seen: list[Action] = []
    for _ in range(60):
        seen += world.pass_().actions
        for name in world.active():
            world.succeed(name)
    starts = {action.config.stage: action.pods for action in seen if isinstance(action, StartJob)}
    assert limits(starts[Stage.TRAIN]) == {"cpu": "2", "nvidia.com/gpu": "1"}
    assert limits(starts[Stage.PROMOTE]) == {"cpu": "2"}
    expiries = {
        world.jobs[action.name].config.stage: action.seconds
        for action in seen
        if isinstance(action, ExpireJob)
    }
    assert expiries[Stage.TRAIN] == 7
    assert expiries[Stage.SAMPLE] == 86_400


def test_more_memory_reaches_the_next_attempt() -> None:
    world = started()
    world.spec = cycle_spec(defaults={"resources": {"limits": {"memory": "32Gi"}}})
    world.generation = 2
    del world.jobs[world.iteration["stages"][0]["job"]]
    world.pass_()
    (begun,) = world.pass_().actions
    assert isinstance(begun, StartJob)
    assert limits(begun.pods) == {"memory": "32Gi"}
    assert begun.attempt == 1


def limits(pods: PodDefaults) -> object:
    assert pods.resources is not None
    return pods.resources.limits


@pytest.mark.parametrize(
    "code", sorted({code for code in ExitCode if code.users_fault} - {ExitCode.CONTAMINATED})
)
def test_a_users_fault_fails_the_iteration_at_once_with_the_workers_words(code: ExitCode) -> None:
    world = started()
    world.fail(world.active()[0], code, code.reason)
    world.settle()
    assert world.iteration["outcome"] == "Failed"
    assert world.iteration["reason"] == code.reason
    assert f"{code.reason} it is" in world.iteration["message"]
    assert condition(world, "Ready")["reason"] == "IterationFailed"
    assert len(world.jobs) == 1


def test_a_missing_input_is_waited_for_and_then_named() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 30})
    for _ in range(20):
        for name in world.active():
            world.fail(name, ExitCode.INPUT_MISSING, "InputMissing")
        world.now += timedelta(seconds=5)
        world.pass_()
    assert world.iteration["reason"] == "InputMissing"
    assert world.iteration["stages"][0]["attempt"] > 1
    assert not world.active()


def test_a_worker_that_never_starts_fails_with_the_schedulers_words() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 30})
    name = world.active()[0]
    world.change(name, pod=PodView(pending="0/3 nodes have nvidia.com/gpu"))
    world.now += timedelta(seconds=31)
    world.pass_()
    assert world.iteration["reason"] == "PendingDeadlineExceeded"
    assert "0/3 nodes have nvidia.com/gpu" in world.iteration["message"]
    assert not world.active()


def test_a_job_that_was_refused_until_the_deadline_fails_with_the_servers_words() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 30})
    stage = world.iteration["stages"][0]
    world.jobs.clear()
    stage.update(job=None, jobUID=None, reason="Refused", message="exceeded quota: jobs")
    world.now += timedelta(seconds=10)
    assert any(isinstance(action, StartJob) for action in world.pass_().actions)
    world.jobs.clear()
    world.iteration["stages"][0].update(
        job=None, jobUID=None, reason="Refused", message="exceeded quota: jobs"
    )
    world.now += timedelta(seconds=21)
    world.pass_()
    assert world.iteration["reason"] == "PendingDeadlineExceeded"
    assert "exceeded quota: jobs" in world.iteration["message"]


def test_a_pod_that_replaces_a_disrupted_one_has_the_whole_deadline_again() -> None:
    world = started(defaults={"pendingDeadlineSeconds": 30})
    name = world.active()[0]
    world.change(name, pod=PodView(started=True))
    world.pass_()
    world.now += timedelta(hours=2)
    world.change(name, pod=PodView(pending="ContainerCreating"))
    world.pass_()
    world.now += timedelta(seconds=20)
    world.pass_()
    assert "outcome" not in world.iteration
    world.change(name, pod=PodView(started=True))
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def test_a_report_that_cannot_be_read_fails_the_stage_and_shows_it() -> None:
    world = started()
    world.change(
        world.active()[0], state=JobState.SUCCEEDED, pod=PodView(0, "contract version 9", started=True)
    )
    world.settle()
    assert world.iteration["reason"] == "ResultInvalid"
    assert "contract version 9" in world.iteration["message"]


def test_a_lost_result_is_reported_again_without_computing_again() -> None:
    world = started()
    world.succeed(world.active()[0], lose_result=True)
    world.settle()
    assert world.iteration["outcome"] == "Promoted"
    assert world.computed["1/sample"] == 1
    assert world.iteration["stages"][0]["disruptions"] == 1


def test_disruptions_cost_nothing_until_there_are_too_many() -> None:
    world = started()
    for _ in range(60):
        for name in world.active():
            world.fail(name, 143, disrupted=True)
        world.pass_()
    assert world.iteration["outcome"] == "Failed"
    assert world.iteration["reason"] == "TooManyDisruptions"


def test_a_stage_that_did_nothing_is_not_done() -> None:
    world = started()
    name = world.active()[0]
    world.succeed(name)
    report = world.jobs[name].view.pod
    assert report is not None
    idle = report.report.replace('"completions":300', '"completions":0')
    world.change(name, pod=PodView(exit_code=0, report=idle, started=True))
    world.pass_()
    assert world.iteration["reason"] == "NoWorkDone"


def test_measurements_of_another_model_promote_nothing() -> None:
    world = started()
    while not any(job.config.stage == Stage.EVALUATE for job in world.jobs.values()):
        for name in world.active():
            world.succeed(name)
        world.pass_()
    world.models[1] = Located(uri="pvc://models/another", digest="sha256:" + "2" * 64)
    world.settle()
    assert world.iteration["outcome"] == "Failed"
    assert world.iteration["reason"] == "WrongCandidate"
    assert "promoted" not in world.status


def test_an_inconclusive_candidate_waits_and_its_approval_names_the_evidence() -> None:
    world = World(annotations=dict(RUN), quality="unclear")
    world.settle()
    assert "outcome" not in world.iteration
    waiting = condition(world, "WaitingForApproval")
    assert waiting["status"] == "True"
    digest = world.iteration["evidenceDigest"]
    world.annotations["alignment.dev/approve"] = "1@sha256:0000"
    world.settle()
    assert "outcome" not in world.iteration
    world.annotations["alignment.dev/approve"] = f"1@{digest[:15]}"
    world.settle()
    assert world.iteration["outcome"] == "Promoted"
    assert world.iteration["reason"] == "Approved"
    assert digest in world.sealed


def test_a_rejection_beats_an_approval() -> None:
    world = World(annotations=dict(RUN), quality="unclear")
    world.settle()
    world.annotations["alignment.dev/approve"] = f"1@{world.iteration['evidenceDigest']}"
    world.annotations["alignment.dev/reject"] = "1"
    world.settle()
    assert world.iteration["outcome"] == "Rejected"
    assert world.iteration["reason"] == "RejectedByPerson"


def test_a_rejection_is_heard_before_the_gates_and_ends_the_job() -> None:
    world = started()
    world.annotations["alignment.dev/reject"] = "1"
    world.settle()
    assert world.iteration["outcome"] == "Rejected"
    assert not world.active()


def test_inconclusive_can_be_made_to_reject() -> None:
    world = World(
        spec=cycle_spec(gates={"winRate": {}, "onInconclusive": "Reject"}),
        annotations=dict(RUN),
        quality="unclear",
    )
    world.settle()
    assert world.iteration["outcome"] == "Rejected"


def test_manual_promotion_waits_even_when_all_gates_passed() -> None:
    world = World(spec=cycle_spec(promotion={"mode": "Manual"}), annotations=dict(RUN))
    world.settle()
    assert condition(world, "WaitingForApproval")["status"] == "True"


def test_cancel_ends_the_running_iteration_and_its_job_once() -> None:
    world = started()
    world.annotations["alignment.dev/cancel"] = "1"
    world.settle()
    assert world.iteration["outcome"] == "Cancelled"
    assert not world.active()
    world.annotations["alignment.dev/run"] = "2"
    world.settle()
    assert world.iteration["number"] == 2
    assert world.iteration["outcome"] == "Promoted"


def test_a_request_with_a_wrong_value_is_said_once() -> None:
    world = started()
    world.annotations["alignment.dev/cancel"] = "the last one"
    assert [event.reason for event in world.pass_().events] == ["InvalidAnnotation"]
    assert not world.pass_().events


def test_a_target_that_drifts_is_repaired() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    good = world.target
    world.target = TargetView("served", "uri", True, "pvc://elsewhere", good.digest, good.owner)
    world.settle()
    assert world.target == good


def test_a_lost_status_reverts_nothing_until_a_person_says_what_is_promoted() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    served = world.target
    world.status = {}
    world.annotations["alignment.dev/run"] = "2"
    world.settle()
    assert world.target == served
    assert condition(world, "Stalled")["reason"] == "PromotionRecordLost"
    assert not world.active()
    world.annotations["alignment.dev/adopt"] = "sha256:" + "0" * 64
    world.settle()
    assert condition(world, "Stalled")["status"] == "True"
    world.annotations["alignment.dev/adopt"] = served.digest or ""
    world.settle()
    assert condition(world, "Stalled")["status"] == "False"
    assert world.status["promoted"]["iteration"] == 2
    assert world.frozen[2].incumbent is not None
    assert world.frozen[2].incumbent.digest == served.digest


def test_adopt_starts_nothing_by_itself() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    world.status = {}
    world.annotations["alignment.dev/adopt"] = world.target.digest or ""
    world.settle()
    assert world.status["handled"]["run"] == "1"
    assert "iteration" not in world.status


def test_a_target_put_back_from_a_backup_is_repaired_once_a_person_says_what_is_right() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    right = world.target
    world.target = TargetView("served", "uri", True, "pvc://old", "sha256:" + "3" * 64, right.owner)
    world.settle()
    assert condition(world, "Stalled")["reason"] == "PromotionRecordLost"
    world.annotations["alignment.dev/adopt"] = right.digest or ""
    world.settle()
    assert world.target == right
    assert world.status["promoted"]["iteration"] == 1


def test_a_status_put_back_from_a_backup_reverts_nothing() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    backup = world.status
    world.annotations["alignment.dev/run"] = "2"
    world.settle()
    served = world.target
    assert served.digest != backup["promoted"]["digest"]
    world.status = backup
    world.pass_()
    assert world.target == served
    assert condition(world, "Stalled")["reason"] == "PromotionRecordLost"


def test_an_iteration_put_back_from_a_backup_cannot_replace_what_was_promoted_since() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    world.annotations["alignment.dev/run"] = "2"
    world.pass_()
    world.pass_()
    backup = world.status
    world.settle()
    served = world.target
    world.status = backup
    world.settle()
    assert world.target == served
    assert not world.active()
    world.annotations["alignment.dev/adopt"] = served.digest or ""
    world.settle()
    assert world.target == served
    assert world.iteration["reason"] == "IncumbentChanged"


def test_a_status_lost_in_mid_iteration_is_taken_up_without_a_second_live_job() -> None:
    world = started()
    del world.jobs[world.active()[0]]
    world.pass_()
    world.pass_()
    assert len(world.live()) == 1
    world.status = {}
    for _ in range(4):
        world.pass_()
        assert len(world.live()) == 1
    world.settle()
    assert world.iteration["number"] == 1
    assert world.iteration["outcome"] == "Promoted"


def test_a_target_of_another_cycle_is_left_alone() -> None:
    world = World(annotations=dict(RUN))
    world.target = TargetView("served", "uri", True, "pvc://theirs", "sha256:" + "1" * 64, "team/other/uid-9")
    theirs = world.target
    world.settle()
    assert world.target == theirs
    assert condition(world, "TargetsSynced")["reason"] == "ClaimedByAnotherCycle"


def test_a_stray_live_job_is_deleted_and_finished_ones_get_a_ttl() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    assert all(job.view.ttl_set for job in world.jobs.values())
    name = next(iter(world.jobs))
    world.change(name, state=JobState.ACTIVE, ttl_set=False)
    world.pass_()
    assert not world.active()


def test_a_pass_that_finds_nothing_new_does_nothing() -> None:
    world = World(annotations=dict(RUN))
    world.settle()
    for _ in range(3):
        status = world.status
        decided = world.pass_()
        assert not decided.actions
        assert not decided.events
        assert world.status == status


def sealed(**changes: object) -> World:
    """The evidence is sealed, and the next pass would promote."""
    world = started(**changes)
    while not any("-promote-" in name for name in world.active()):
        for name in world.active():
            world.succeed(name)
        world.pass_()
    world.succeed(world.active()[0])
    world.pass_()
    return world


def test_a_candidate_that_somebody_wrote_into_the_status_is_not_promoted() -> None:
    world = sealed()
    world.iteration["candidate"] = {"uri": "pvc://store/evil", "digest": f"sha256:{'e' * 64}"}
    world.settle()
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Failed", "EvidenceMismatch")
    assert "promoted" not in world.status
    assert not world.target.exists


def test_verdicts_that_the_measurements_do_not_give_promote_nothing() -> None:
    world = started()
    world.quality = "unclear"
    until_held(world)
    for gate in world.iteration["gates"]:
        gate["verdict"] = "Passed"
    frozen = world.frozen[1]
    edited = AlignmentCycleStatus.of(world.status).iteration
    assert edited is not None
    digest = evidence.of(world.observe().owner, frozen, edited).digest()
    world.iteration["evidenceDigest"] = digest
    world.annotations["alignment.dev/approve"] = f"1@{digest}"
    world.settle()
    assert world.iteration["outcome"] == "Failed"
    assert "promoted" not in world.status


def test_taking_the_outcome_of_a_refused_candidate_away_makes_it_refused_again() -> None:
    world = World(annotations=dict(RUN), quality="hacked")
    world.settle()
    digest = world.iteration["evidenceDigest"]
    del world.iteration["outcome"]
    world.annotations["alignment.dev/approve"] = f"1@{digest}"
    world.settle()
    assert world.iteration["outcome"] == "Rejected"
    assert "promoted" not in world.status


def test_an_annotation_of_any_length_is_handled_once_and_does_not_grow_the_status() -> None:
    world = World(annotations={"alignment.dev/run": "x" * 10_000, "alignment.dev/cancel": "9" * 10_000})
    world.settle()
    assert world.iteration["number"] == 1
    assert max(map(len, world.status["handled"].values())) < 256
    world.annotations["alignment.dev/run"] = "x" * 10_001
    world.settle()
    assert world.iteration["number"] == 2


def test_a_worker_that_ends_well_and_says_nothing_is_no_worker() -> None:
    world = started()
    (name,) = world.active()
    world.change(name, state=JobState.SUCCEEDED, pod=PodView(0, "", started=True))
    world.settle()
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Failed", "ResultInvalid")
    assert "is its image the worker's?" in world.iteration["message"]


ELSEWHERE = Located(uri="pvc://other/evil", digest=f"sha256:{'e' * 64}")


@pytest.mark.parametrize(
    ("stage", "changes", "said"),
    [
        ("sample", {"manifest": ELSEWHERE}, "reports a manifest in pvc://other/evil"),
        ("train", {"model": ELSEWHERE}, "reports a model in pvc://other/evil"),
        ("evaluate", {"inputs": {"policy": ELSEWHERE.digest}}, "of policy, which it was not asked for"),
        (
            "judge",
            {"inputs": {"comparisonJudge": ELSEWHERE.digest}},
            "of comparisonJudge, which it was not asked",
        ),
    ],
)
def test_a_report_of_something_else_than_was_asked_for_is_not_believed(
    stage: str, changes: dict[str, object], said: str
) -> None:
    world = started()
    while not any(f"-{stage}-" in name for name in world.active()):
        for name in world.active():
            world.succeed(name)
        world.pass_()
    (name,) = world.active()
    world.succeed(name)
    pod = world.jobs[name].view.pod
    assert pod is not None
    result = StageReport.decode(pod.report).result
    assert result is not None
    lie = StageReport(result=result.model_copy(update=changes)).encode()
    world.change(name, pod=replace(pod, report=lie))
    world.settle()
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Failed", "ResultInvalid")
    assert said in world.iteration["message"]


def test_cancel_ends_an_iteration_whose_status_was_damaged() -> None:
    world = started()
    world.succeed(world.active()[0])
    world.pass_()
    world.pass_()
    del world.iteration["stages"][0]["result"]
    world.annotations["alignment.dev/cancel"] = "1"
    world.pass_()
    assert world.iteration["outcome"] == "Cancelled"


def test_a_lost_status_leaves_the_running_job_alone_until_its_stage_is_reached_again() -> None:
    world = started()
    while not any("-train-" in name for name in world.active()):
        for name in world.active():
            world.succeed(name)
        world.pass_()
    training = world.active()
    world.status = {}
    for _ in range(12):
        world.pass_()
    assert world.active() == training
    world.settle()
    assert world.iteration["outcome"] == "Promoted"
    assert world.computed["1/train"] == 1


def test_a_full_store_is_waited_out_and_then_the_stage_goes_on() -> None:
    world = started()
    world.fail(world.active()[0], 1, reason="StoreFull")
    world.pass_()
    (entry,) = world.iteration["stages"]
    assert (entry["state"], entry["reason"]) == ("Pending", "StoreFull")
    assert "waits: StoreFull it is" in condition(world, "Iterating")["message"]
    assert condition(world, "Iterating")["reason"] == "StoreFull"
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def test_a_store_that_stays_full_fails_the_iteration_with_the_workers_words() -> None:
    world = started()
    for _ in range(200):
        for name in world.active():
            world.fail(name, 1, reason="StoreFull")
        world.pass_()
        world.reap()
        world.now += timedelta(seconds=61)
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Failed", "StoreFull")
    assert "StoreFull it is" in world.iteration["message"]


def test_a_clock_that_was_put_back_makes_nobody_wait() -> None:
    world = started()
    world.fail(world.active()[0], 63, reason="InputMissing")
    world.pass_()
    world.reap()
    world.now -= timedelta(days=30)
    world.pass_()
    assert len(world.active()) == 1


@pytest.mark.parametrize("verb", ["cancel", "reject"])
def test_the_stage_that_a_person_ended_runs_no_more(verb: str) -> None:
    world = started()
    world.annotations[f"alignment.dev/{verb}"] = "1"
    world.settle()
    (entry,) = world.iteration["stages"]
    assert entry["state"] == "Failed"
    assert entry["finishedAt"]
    assert entry["reason"] in {"Cancelled", "RejectedByPerson"}


SIGNATURE = {
    "privateKeySecretRef": {"name": "signing", "key": "key.pem"},
    "publicKeys": [PUBLIC_KEY],
}


def test_what_signs_and_what_reads_the_incumbent_are_told_by_which_keys() -> None:
    world = started(
        promotion={"signature": SIGNATURE}, policy={"model": "pvc://models/m0", "start": "Initial"}
    )
    world.settle()
    told = {job.config.stage for job in world.jobs.values() if job.config.signature is not None}
    assert told == {Stage.SAMPLE, Stage.TRAIN, Stage.EVALUATE, Stage.PROMOTE}
    assert world.iteration["outcome"] == "Promoted"


def test_without_a_signature_in_the_spec_no_stage_is_told_of_any() -> None:
    world = started()
    world.settle()
    assert all(job.config.signature is None for job in world.jobs.values())


def test_nothing_is_swapped_before_the_stage_says_that_it_has_signed() -> None:
    world = started(promotion={"signature": SIGNATURE})
    while not any("-promote-" in name for name in world.active()):
        for name in world.active():
            world.succeed(name)
        world.pass_()
    (name,) = world.active()
    world.succeed(name, signed=0)
    world.settle()
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Failed", "ResultInvalid")
    assert "stage promote reports no signature" in world.iteration["message"]
    assert "promoted" not in world.status


def test_a_signature_that_does_not_count_fails_the_iteration_at_once() -> None:
    world = started(promotion={"signature": SIGNATURE})
    (name,) = world.active()
    world.fail(name, ExitCode.SIGNATURE_NOT_VERIFIED, ExitCode.SIGNATURE_NOT_VERIFIED.reason)
    world.settle()
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Failed", "SignatureNotVerified")
    assert len(world.computed) == 0

"""A cycle that trains its own reward model: the order of stages, and what each is given."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_api import digests
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.stage import InputKind, RewardParameters, Stage, StageConfig, TrainParameters
from alignment_operator.plan.iteration import settled_pods
from tests.operator.plan_world import World, cycle_spec

REWARD = {"model": "pvc://models/m0", "minPairs": 500}
DATASETS = [{"name": "people", "maxPairs": 900}]


def spec(**changes: Any) -> AlignmentCycleSpec:
    return cycle_spec(**{"reward": REWARD, "datasets": DATASETS, "judge": {"rewardModel": {}}} | changes)


def settled(**changes: Any) -> World:
    world = World(spec=spec(**changes), annotations={"alignment.dev/run": "1"})
    world.datasets = {"people": 1000}
    world.settle()
    return world


def config(world: World, stage: Stage) -> StageConfig:
    return next(job.config for job in world.jobs.values() if job.config.stage == stage)


def datasets(made: StageConfig) -> list[str]:
    return [role for role in made.inputs if role.startswith("dataset/")]


def stages(world: World) -> list[str]:
    return [stage["name"] for stage in world.iteration["stages"]]


def trained(world: World) -> dict[str, str]:
    entry = next(stage for stage in world.iteration["stages"] if stage["name"] == "reward")
    model: dict[str, str] = entry["result"]["model"]
    return model


def test_the_reward_model_is_trained_before_anything_is_sampled() -> None:
    world = settled()
    assert stages(world) == ["reward", "sample", "judge", "train", "evaluate", "compare", "promote"]
    assert world.iteration["outcome"] == "Promoted"


def test_ppo_is_scored_by_what_it_trained() -> None:
    world = settled(training={"method": "PPO"}, sampling={})
    assert stages(world) == ["reward", "train", "evaluate", "compare", "promote"]
    assert world.iteration["outcome"] == "Promoted"
    train = config(world, Stage.TRAIN).inputs
    assert (train["judge"].uri, train["judge"].digest) == (trained(world)["uri"], trained(world)["digest"])


def test_as_the_first_stage_it_looks_at_every_input() -> None:
    first = config(settled(), Stage.REWARD)
    assert set(first.inputs) == {
        *("backbone", "policy", "prompts", "goldSet", "heldOutPrompts", "dataset/people"),
    }
    assert first.inputs["backbone"].kind is InputKind.MODEL
    assert first.expected is not None
    parameters = first.parameters
    assert isinstance(parameters, RewardParameters)
    assert parameters.reward.min_pairs == 500
    assert [dataset.max_pairs for dataset in parameters.datasets] == [900]


def test_what_it_trained_judges_under_its_digest() -> None:
    world = settled()
    for stage in (Stage.JUDGE, Stage.COMPARE):
        judge = config(world, stage).inputs["judge"]
        assert (judge.uri, judge.digest) == (trained(world)["uri"], trained(world)["digest"])
        assert judge.kind is InputKind.REWARD_MODEL
    assert world.iteration["inputs"]["judge"] == trained(world)["digest"]


def test_a_judge_with_a_uri_is_taken_from_there_and_the_trained_one_may_compare() -> None:
    evaluation = cycle_spec().evaluation.to_wire() | {"comparison": {"judge": {"rewardModel": {}}}}
    world = settled(judge={"rewardModel": {"uri": "pvc://models/reward"}}, evaluation=evaluation)
    compare = config(world, Stage.COMPARE)
    assert compare.inputs["judge"].uri == "pvc://models/reward"
    assert compare.inputs["comparisonJudge"].uri == trained(world)["uri"]
    assert world.iteration["inputs"]["judge"] == digests.of_json("judge")
    assert world.iteration["inputs"]["comparisonJudge"] == trained(world)["digest"]


def test_one_model_that_judges_and_compares_is_no_independent_judge() -> None:
    evaluation = cycle_spec().evaluation.to_wire() | {"comparison": {"judge": {"rewardModel": {}}}}
    inputs = settled(evaluation=evaluation).iteration["inputs"]
    assert inputs["judge"] == inputs["comparisonJudge"]


@pytest.mark.parametrize(
    ("judge", "given"),
    [({"rewardModel": {"uri": "pvc://models/reward"}}, ["dataset/people"]), ({"verifier": {}}, [])],
)
def test_a_reward_model_is_given_the_pairs_that_it_is_checked_on(
    judge: dict[str, Any], given: list[str]
) -> None:
    world = settled(judge=judge, reward=None)
    assert datasets(config(world, Stage.JUDGE)) == given


@pytest.mark.parametrize(
    ("judge", "given"),
    [
        ({"rewardModel": {"uri": "pvc://models/reward"}}, ["dataset/people"]),
        ({"rewardModel": {}}, ["dataset/people"]),
        ({"verifier": {}}, []),
    ],
)
def test_with_ppo_the_stage_train_is_given_them(judge: dict[str, Any], given: list[str]) -> None:
    evaluation = cycle_spec().evaluation.to_wire() | {"confidencePercent": 90}
    train = config(settled(training={"method": "PPO"}, judge=judge, evaluation=evaluation), Stage.TRAIN)
    assert datasets(train) == given
    assert isinstance(train.parameters, TrainParameters)
    assert train.parameters.online is not None
    assert train.parameters.online.confidence_percent == 90


def test_offline_it_is_trained_for_the_comparison() -> None:
    evaluation = cycle_spec().evaluation.to_wire() | {"comparison": {"judge": {"rewardModel": {}}}}
    world = settled(prompts=None, judge=None, gates={}, evaluation=evaluation)
    assert stages(world) == ["reward", "train", "evaluate", "compare", "promote"]
    assert config(world, Stage.COMPARE).inputs["comparisonJudge"].digest == trained(world)["digest"]


def test_it_fails_the_iteration_with_its_own_reason() -> None:
    world = World(spec=spec(), annotations={"alignment.dev/run": "1"})
    world.datasets = {"people": 1000}
    world.pass_()
    world.pass_()
    (name,) = world.active()
    world.fail(name, 74, "JudgeStale")
    world.settle()
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Failed", "JudgeStale")
    assert "stage reward failed" in world.iteration["message"]


def test_its_pods_have_settings_of_their_own() -> None:
    pods = settled_pods(spec(stages={"reward": {"retries": 7}}), Stage.REWARD)
    assert pods.retries == 7
    assert settled_pods(spec(stages={"train": {"retries": 7}}), Stage.REWARD).retries == 2
    whole = config(settled(), Stage.REWARD)
    assert whole.nodes == whole.shards == 1

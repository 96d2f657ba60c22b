"""Targets that other managers take: repaired once, and then left alone and told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from alignment_operator.observed import TargetView
from alignment_operator.plan import targets
from alignment_operator.planned import PointTarget
from tests.operator.plan_world import World, cycle_spec

RUN = {"alignment.dev/run": "1"}


def promoted() -> World:
    world = World(annotations=dict(RUN))
    world.settle()
    return world


def take(world: World, manager: str | None = "argocd-controller", **changes: Any) -> None:
    world.target = replace(world.target, value="pvc://theirs", held_by=manager, **changes)


def synced(world: World) -> dict[str, str]:
    return next(entry for entry in world.status["conditions"] if entry["type"] == "TargetsSynced")


def row(world: World) -> dict[str, Any]:
    (found,) = world.status["targets"]
    return dict(found)


def test_status_says_what_was_last_written_to_each_target() -> None:
    world = promoted()
    digest = world.status["promoted"]["digest"]
    expected = {"kind": "ConfigMap", "name": "served", "key": "uri", "digest": digest, "takenBack": 0}
    assert row(world) == expected


def test_what_was_there_before_the_first_promotion_was_not_taken_back() -> None:
    world = World(annotations=dict(RUN))
    world.target = replace(world.target, exists=True, value="pvc://m0", held_by="kubectl-create")
    world.settle()
    assert world.target.value == world.status["promoted"]["uri"]
    assert row(world)["takenBack"] == 0


def test_a_field_that_was_taken_back_once_is_repaired() -> None:
    world = promoted()
    good = world.target
    take(world)
    world.settle()
    assert world.target == good
    assert (row(world)["takenBack"], row(world)["manager"]) == (1, "argocd-controller")
    assert synced(world)["status"] == "True"


def test_one_that_was_taken_back_twice_is_left_alone_and_the_manager_is_named() -> None:
    world = promoted()
    for _ in range(2):
        take(world)
        world.settle()
    assert world.target.value == "pvc://theirs"
    assert not any(isinstance(action, PointTarget) for action in world.pass_().actions)
    assert (synced(world)["status"], synced(world)["reason"]) == ("False", "TakenBack")
    assert "ConfigMap served by argocd-controller" in synced(world)["message"]


def test_a_manager_that_is_faster_than_the_next_pass_is_not_fought_for_ever() -> None:
    world = promoted()
    writes = 0
    for _ in range(10):
        take(world)
        writes += sum(isinstance(action, PointTarget) for action in world.pass_().actions)
    assert writes == 1
    assert synced(world)["reason"] == "TakenBack"
    assert row(world)["takenBack"] == 2


def test_drift_that_nobody_owns_up_to_is_repaired_every_time() -> None:
    world = promoted()
    good = world.target
    for _ in range(5):
        take(world, manager=None)
        world.settle()
        assert world.target == good
        assert row(world)["takenBack"] == 0


def test_a_digest_that_drifted_in_its_own_key_is_repaired() -> None:
    world = promoted()
    world.target = replace(world.target, digest_key="digest")
    world.settle()
    good = world.target
    assert good.digest_value == world.status["promoted"]["digest"]
    for drifted in (None, "sha256:" + "0" * 64):
        world.target = replace(good, digest_value=drifted)
        world.settle()
        assert world.target == good


def test_it_is_synced_again_once_the_other_manager_lets_go() -> None:
    world = promoted()
    for _ in range(2):
        take(world)
        world.settle()
    world.target = replace(world.target, exists=False, value=None, digest=None, owner=None, held_by=None)
    world.settle()
    assert world.target.value == world.status["promoted"]["uri"]
    assert synced(world)["status"] == "True"


def test_the_next_promotion_is_written_whoever_holds_the_field() -> None:
    world = promoted()
    for _ in range(2):
        take(world)
        world.settle()
    world.annotations["alignment.dev/run"] = "2"
    world.settle()
    assert world.status["promoted"]["iteration"] == 2
    assert world.target.value == world.status["promoted"]["uri"]
    assert row(world)["takenBack"] == 0


def test_another_manager_that_agrees_takes_nothing_back() -> None:
    world = promoted()
    world.target = replace(world.target, held_by="argocd-controller")
    for _ in range(3):
        assert not any(isinstance(action, PointTarget) for action in world.pass_().actions)
    assert (row(world)["takenBack"], synced(world)["status"]) == (0, "True")


def test_until_something_is_promoted_targets_are_in_order() -> None:
    world = World()
    world.pass_()
    assert (synced(world)["status"], synced(world)["reason"]) == ("True", "NothingPromoted")


@pytest.mark.parametrize("annotations", [{}, RUN])
def test_without_targets_nothing_is_out_of_order(annotations: dict[str, str]) -> None:
    world = World(spec=cycle_spec(promotion={}), annotations=dict(annotations))
    world.settle()
    assert (synced(world)["status"], synced(world)["reason"]) == ("True", "NoTargets")


def test_a_target_that_another_cycle_has_written_is_named_with_it() -> None:
    world = promoted()
    claimed = replace(world.target, value="pvc://theirs", owner="team/other/uid-2")
    state = followed(world, claimed)
    assert (state.actions, state.synced, state.reason) == ((), False, "ClaimedByAnotherCycle")
    assert "ConfigMap served by team/other/uid-2" in state.message


SERVICE = TargetView("support", "storageUri", exists=True, value="pvc://models/m0", kind="InferenceService")


def followed(world: World, *views: TargetView) -> targets.TargetsState:
    return targets.follow(replace(world.observe(), targets=views))


def test_an_inference_service_follows_what_is_promoted() -> None:
    world = promoted()
    state = followed(world, SERVICE)
    (point,) = state.actions
    assert (point.kind, point.name, point.uri) == (
        "InferenceService",
        "support",
        world.status["promoted"]["uri"],
    )
    assert state.message.endswith("to InferenceService support")
    assert (state.synced, state.reason) == (False, "Updating")
    assert [(row.kind, row.key) for row in state.rows] == [("InferenceService", "storageUri")]


def test_an_inference_service_that_is_not_there_is_asked_for_and_not_made() -> None:
    world = promoted()
    state = followed(world, replace(SERVICE, exists=False), world.target)
    assert not state.actions
    assert (state.synced, state.reason) == (False, "TargetMissing")
    assert "InferenceService support" in state.message


def test_a_config_map_and_an_inference_service_of_one_name_are_two_targets() -> None:
    world = promoted()
    digest = world.status["promoted"]["digest"]
    held = replace(world.target, name="support", value="pvc://theirs", held_by="argocd-controller")
    world.status["targets"] = [
        {
            "kind": "ConfigMap",
            "name": "support",
            "key": "uri",
            "digest": digest,
            "takenBack": 2,
            "manager": "x",
        }
    ]
    state = followed(world, held, SERVICE)
    assert [point.where for point in state.actions] == ["InferenceService support"]
    assert state.reason == "TakenBack"


def test_a_config_map_with_several_keys_is_written_once_and_as_it_was_seen() -> None:
    world = promoted()
    behind = [
        replace(world.target, key=key, value="pvc://theirs", resource_version="7") for key in ("uri", "model")
    ]
    (point,) = followed(world, *behind).actions
    assert (point.where, point.resource_version) == ("ConfigMap served", "7")


def test_inference_services_are_looked_at_now_and_then_for_they_are_not_watched() -> None:
    world = promoted()
    assert targets.look_again_at(world.observe(), world.now) is None
    seen = replace(world.observe(), targets=(SERVICE,))
    assert targets.look_again_at(seen, world.now) == world.now + timedelta(minutes=5)
    local = replace(seen, settings=replace(seen.settings, heed_triggers=False))
    assert targets.look_again_at(local, world.now) is None, "nobody waits for a command that has ended"

"""Which revisions of a dataset stay, and which never go."""

from __future__ import annotations

from dataclasses import replace

import pytest

from alignment_api.dataset import PreferenceDatasetStatus
from alignment_api.stage import CollectParameters, Stage
from alignment_operator.plan import dataset
from tests.operator.dataset_world import PREFIX, DatasetWorld, dataset_spec


def collecting(world: DatasetWorld) -> CollectParameters:
    """What the collection's one live Job is told."""
    (name,) = world.active(Stage.COLLECT)
    parameters = world.jobs[name][1].parameters
    assert isinstance(parameters, CollectParameters)
    return parameters


def listed(status: PreferenceDatasetStatus) -> list[int]:
    return [revision.number for revision in status.kept]


def test_the_newest_revisions_stay_and_the_status_lists_no_other() -> None:
    world = DatasetWorld(dataset_spec(3))
    world.refresh("a", "b", "c")
    assert (world.numbers(), world.status.collection) == ([1, 2, 3], None)
    world.refresh("d", "e")
    assert world.numbers() == [3, 4, 5]
    assert listed(world.status) == [5, 4, 3]
    assert [revision.number for revision in world.status.revisions] == [4, 3]
    assert world.status.collection is not None
    assert world.status.collection.stage.state == "Succeeded"


def test_the_job_is_told_what_stays_and_where() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.ask("b")
    world.settle(Stage.INGEST)
    wanted = collecting(world).revisions
    assert wanted is not None
    assert wanted.dataset_prefix == PREFIX.removesuffix("/revisions")
    assert (wanted.kept, wanted.newest) == ([world.folder(2)], 1)
    (name,) = world.active(Stage.COLLECT)
    config = world.jobs[name][1]
    assert (config.iteration, config.inputs) == (2, {})
    assert config.output == f"{PREFIX.replace('revisions', 'collected')}/{world.folder(2)}"


def test_a_revision_that_a_cycle_works_from_stays_until_it_does_not() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.in_use = {world.folder(1)}
    world.refresh("b", "c")
    assert (world.numbers(), listed(world.status)) == ([1, 3], [3, 1])
    world.in_use = set()
    world.refresh("d")
    assert (world.numbers(), listed(world.status)) == ([4], [4])


def test_what_is_in_use_of_another_dataset_says_nothing_of_this_one() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.in_use = {f"../../uid-of-a-deleted-one/revisions/{world.folder(1)}"}
    world.refresh("b")
    assert world.numbers() == [2]


def test_a_revision_that_stays_because_it_is_in_use_starts_no_collection_after_each_refresh() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.in_use = {world.folder(1)}
    world.refresh("b", "b")
    assert world.status.ingest_number == 3
    assert world.status.collection is not None
    assert world.status.collection.refresh == 2


def test_refreshes_that_find_the_same_or_fail_go_when_there_are_as_many_as_revisions() -> None:
    world = DatasetWorld(dataset_spec(2))
    world.refresh("a", "a", "a")
    assert (world.numbers(), world.status.collection) == ([1, 2, 3], None)
    world.ask("", fails=True)
    world.settle()
    assert world.numbers() == [1]
    assert listed(world.status) == [1]


def test_nothing_is_deleted_before_it_is_known_what_cycles_have_frozen_since_it_was_written_down() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.ask("b")
    while world.status.collection is None:
        world.pass_()
        world.work(Stage.INGEST)
    assert not world.active(Stage.COLLECT), "written down, and not begun"
    assert listed(world.status) == [2], "no iteration can freeze the other any more"
    world.in_use = {world.folder(1)}  # one has just frozen it
    world.settle()
    assert world.numbers() == [1, 2]
    assert listed(world.status) == [2, 1]


@pytest.mark.parametrize("at", range(8))
def test_an_operator_killed_at_any_pass_starts_no_second_collection(at: int) -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.ask("b")
    for number in range(12):
        world.pass_(crash=number == at)
        world.work(Stage.INGEST, Stage.COLLECT)
    assert len([view for view, _ in world.jobs.values() if view.stage == Stage.COLLECT]) == 1
    assert world.numbers() == [2]


def test_the_next_refresh_runs_beside_a_collection_and_its_revision_is_not_looked_at() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.ask("b")
    world.settle(Stage.INGEST)
    world.ask("c")
    world.settle(Stage.INGEST)
    assert listed(world.status) == [3, 2]
    wanted = collecting(world).revisions
    assert wanted is not None
    assert wanted.kept == [world.folder(2)]
    world.settle()
    assert (world.numbers(), listed(world.status)) == ([3], [3])


def test_a_collection_that_fails_is_told_and_the_next_one_does_it_all() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.ask("b")
    world.settle(Stage.INGEST)
    (name,) = world.active(Stage.COLLECT)
    world.fail(name)
    told = world.pass_().events
    assert [(event.reason, event.warning) for event in told] == [("CollectFailed", True)]
    assert listed(world.status) == [2]
    ready = next(each for each in world.status.conditions if each.type == "Ready")
    assert ready.status == "True"
    world.settle()
    assert world.numbers() == [1, 2]
    world.refresh("c")
    assert world.numbers() == [3]


def test_while_it_is_suspended_nothing_is_collected_and_then_it_is() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.ask("b")
    world.settle(Stage.INGEST)
    world.spec = dataset_spec(1, suspend=True)
    world.pass_()
    assert world.status.collection is not None
    assert world.status.collection.stage.reason == "Suspended"
    (name,) = world.active(Stage.COLLECT)
    assert world.jobs[name][0].suspended
    world.spec = dataset_spec(1)
    world.settle()
    assert world.numbers() == [2]


def test_a_store_that_was_changed_leaves_the_old_one_alone_and_its_last_revision_in_force() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.spec = dataset_spec(1, store={"uri": "pvc://other/store"})
    world.ask("", fails=True)
    world.settle()
    assert listed(world.status) == [1]


def test_more_revisions_in_use_than_can_be_named_are_told_and_nothing_is_deleted() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.in_use = {f"{number}-20261101T000000Z" for number in range(1, 1002)}
    world.refresh("b")
    assert world.numbers() == [1, 2]
    assert world.status.collection is not None
    assert (world.status.collection.stage.state, world.status.collection.stage.reason) == (
        "Failed",
        "TooManyInUse",
    )


def test_collecting_needs_no_accelerator() -> None:
    world = DatasetWorld(
        dataset_spec(1, defaults={"resources": {"limits": {"nvidia.com/gpu": 1, "memory": "1Gi"}}})
    )
    world.refresh("a")
    world.ask("b")
    while not world.active(Stage.COLLECT):
        plan = world.pass_()
        world.work(Stage.INGEST)
    (started,) = [action for action in plan.actions if getattr(action, "pods", None)]
    limits = started.pods.resources.to_wire()["limits"]  # type: ignore[union-attr]
    assert limits == {"memory": "1Gi"}


def test_with_a_spec_that_cannot_be_read_nothing_is_collected() -> None:
    world = DatasetWorld(dataset_spec(1))
    world.refresh("a")
    world.ask("b")
    world.settle(Stage.INGEST)
    before = world.status.collection
    planned = dataset.plan(replace(world.observe(), spec=None), world.now)
    assert (planned.actions, planned.status.collection) == ((), before)

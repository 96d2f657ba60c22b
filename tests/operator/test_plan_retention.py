"""What retention lets go, and what it never does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from alignment_api.cycle import History
from alignment_api.cycle_status import AlignmentCycleStatus, HistoryRow, Promoted
from alignment_api.stage import CollectParameters, ExitCode, Stage
from alignment_operator.plan.retention import kept
from tests.operator.plan_world import World, cycle_spec

LEAST = {"iterations": 2, "keepPromoted": 1, "keepCandidates": 0}


def iterate(world: World, *qualities: str) -> None:
    for quality in qualities:
        world.quality = quality
        world.annotations["alignment.dev/run"] = f"after {world.iteration.get('number', 0)}"
        world.settle()


def status(outcomes: str, promoted: Sequence[int]) -> AlignmentCycleStatus:
    """`outcomes`: P or R for iterations 1, 2, …; `promoted`: the newest first."""
    spelled = {"P": "Promoted", "R": "Rejected"}
    rows = [
        HistoryRow(number=number, outcome=spelled[letter], reason="", finished_at="")
        for number, letter in enumerate(outcomes, 1)
    ]
    promotions = [Promoted(iteration=number, uri="", digest=str(number), at="") for number in promoted]
    return AlignmentCycleStatus(
        history=rows[::-1],
        promoted=promotions[0] if promotions else None,
        promotions=promotions[1:],
    )


@pytest.mark.parametrize(
    ("outcomes", "promoted", "keep", "stay"),
    [
        ("RRRRR", [], (5, 3), [3, 4, 5]),
        ("PRRRRR", [1], (5, 3), [1, 4, 5, 6]),
        ("PPPPPPP", [7, 6, 5, 4, 3, 2], (5, 3), [3, 4, 5, 6, 7]),
        ("PPP", [3, 2, 1], (1, 0), [3]),
        ("PPR", [1, 2], (1, 0), [1]),  # rolled back: what is in service stays, the newer one goes
        ("R", [0], (1, 0), []),  # M_0 is not in the store
    ],
)
def test_the_promoted_ones_stay_and_the_last_that_were_not(
    outcomes: str, promoted: list[int], keep: tuple[int, int], stay: list[int]
) -> None:
    history = History(iterations=10, keep_promoted=keep[0], keep_candidates=keep[1])
    assert kept(status(outcomes, promoted), history) == stay


def test_nothing_is_collected_while_everything_may_stay() -> None:
    world = World()
    iterate(world, "good", "hacked", "good", "hacked")
    assert not [name for name in world.jobs if "-collect-" in name]
    assert world.stored() == {1, 2, 3, 4}


def test_what_is_over_the_limit_goes_and_the_status_says_what_stays() -> None:
    world = World(spec=cycle_spec(history=LEAST))
    iterate(world, "good", "hacked")
    assert world.stored() == {1}
    iterate(world, "good")
    assert world.stored() == {3}
    assert world.status["promoted"]["iteration"] == 3
    collection = world.status["collection"]
    assert (collection["iteration"], collection["kept"]) == (3, [3])
    assert collection["stage"]["state"] == "Succeeded"
    collecting = next(job for job in world.jobs.values() if "-3-collect-" in job.view.name)
    assert collecting.view.ttl_set
    assert collecting.config.output.endswith("/uid-1/iterations/3/collect")
    assert collecting.config.inputs == {}
    parameters = collecting.config.parameters
    assert isinstance(parameters, CollectParameters)
    assert parameters.iterations is not None
    assert parameters.iterations.cycle_prefix == "pvc://models/cycles/team/support/uid-1"
    assert (parameters.iterations.kept, parameters.iterations.keep_promoted) == ([3], 1)


def test_defaults_keep_five_promoted_and_three_others() -> None:
    world = World()
    iterate(world, *["good"] * 3, *["hacked"] * 5, *["good"] * 4)
    assert world.stored() == {3, 6, 7, 8, 9, 10, 11, 12}


def test_a_collection_that_fails_harms_nothing_and_the_next_one_does_it_all() -> None:
    world = World(spec=cycle_spec(history=LEAST))
    iterate(world, "good", "hacked")
    world.quality = "good"
    world.annotations["alignment.dev/run"] = "again"
    while not (collecting := [name for name in world.active() if "-3-collect-" in name]):
        world.pass_()
        for name in world.active():
            if "-collect-" not in name:
                world.succeed(name)
    world.fail(collecting[0], ExitCode.INVALID_CONFIG)
    plan = world.pass_()
    assert [event.reason for event in plan.events] == ["CollectFailed"]
    world.settle()
    ready = next(entry for entry in world.status["conditions"] if entry["type"] == "Ready")
    assert ready["status"] == "True"
    assert world.stored() == {1, 3}
    iterate(world, "hacked")
    assert world.stored() == {3}


def test_the_next_iteration_does_not_wait_for_a_collection_nor_lose_by_it() -> None:
    world = World(spec=cycle_spec(history=LEAST))
    iterate(world, "good")
    world.annotations["alignment.dev/run"] = "second"
    while world.iteration.get("number") != 3:
        world.annotations["alignment.dev/run"] = f"{world.iteration['number']} and one more"
        world.pass_()
        for name in world.active():
            if "-collect-" not in name:
                world.succeed(name)
    (collecting,) = (name for name in world.active() if "-collect-" in name)
    world.pass_()
    assert any("-3-sample-" in name for name in world.active())
    world.succeed(collecting)
    assert world.stored() == {2}
    world.settle()
    assert world.iteration["outcome"] == "Promoted"


def collecting(**changes: Any) -> tuple[World, str]:
    """A world in which the second iteration's collection runs, and its Job."""
    world = World(spec=cycle_spec(history=LEAST, **changes))
    iterate(world, "good")
    world.quality = "hacked"
    world.annotations["alignment.dev/run"] = "second"
    while not (found := [name for name in world.active() if "-collect-" in name]):
        world.pass_()
        for name in world.active():
            if "-collect-" not in name:
                world.succeed(name)
    return world, found[0]


def test_what_was_collected_is_told_once() -> None:
    world, name = collecting()
    world.succeed(name)
    (told,) = world.pass_().events
    assert told.reason == "Collected"
    assert told.message.endswith("kept: [1]")
    assert not world.pass_().events


def test_a_collection_that_never_starts_fails_at_its_deadline_and_is_looked_at_then() -> None:
    world, name = collecting(defaults={"pendingDeadlineSeconds": 30})
    begun = world.jobs[name].view.created_at
    assert begun is not None
    assert world.pass_().wake_at == begun + timedelta(seconds=30)
    world.now = begun + timedelta(seconds=30)
    (told,) = world.pass_().events
    assert (told.reason, told.warning) == ("CollectFailed", True)
    assert not world.active()


def test_a_collection_that_finds_nothing_to_read_is_not_tried_again() -> None:
    world, name = collecting()
    world.fail(name, ExitCode.INPUT_MISSING)
    assert [event.reason for event in world.pass_().events] == ["CollectFailed"]


def test_a_suspended_collection_goes_on_where_it_was_and_no_deadline_runs() -> None:
    deadline = {"pendingDeadlineSeconds": 30}
    world, name = collecting(defaults=deadline)
    world.spec, world.generation = cycle_spec(history=LEAST, suspend=True, defaults=deadline), 2
    world.pass_()
    stage = world.status["collection"]["stage"]
    assert (stage["state"], stage["reason"]) == ("Pending", "Suspended")
    assert world.jobs[name].view.suspended
    world.now += timedelta(days=9)
    world.pass_()
    world.spec, world.generation = cycle_spec(history=LEAST, defaults=deadline), 3
    world.pass_()
    assert "reason" not in world.status["collection"]["stage"]
    world.settle()
    assert world.status["collection"]["stage"]["state"] == "Succeeded"
    assert world.stored() == {1}
    assert len([job for job in world.jobs if "-collect-" in job]) == 1


def test_a_collection_that_is_over_is_taken_note_of_though_the_cycle_is_suspended_meanwhile() -> None:
    world, name = collecting()
    world.succeed(name)
    world.spec, world.generation = cycle_spec(history=LEAST, suspend=True), 2
    world.pass_()
    assert world.status["collection"]["stage"]["state"] in {"Pending", "Running"}
    world.spec, world.generation = cycle_spec(history=LEAST), 3
    world.pass_()
    assert world.status["collection"]["stage"]["state"] == "Succeeded"


def test_nothing_is_collected_while_the_cycle_is_suspended() -> None:
    world = World(spec=cycle_spec(history=LEAST))
    iterate(world, "good", "hacked")
    world.spec, world.generation = cycle_spec(history=LEAST | {"keepPromoted": 2}, suspend=True), 2
    before = world.status["collection"]
    world.settle()
    assert world.status["collection"] == before


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_operator_killed_in_a_collection_starts_no_second_one(after: int) -> None:
    world = World(spec=cycle_spec(history=LEAST))
    iterate(world, "good")
    world.quality = "hacked"
    world.annotations["alignment.dev/run"] = "second"
    for _ in range(60):
        world.pass_(crash_after=after)
        world.pass_()
        for name in world.active():
            world.succeed(name)
    assert len([job for job in world.jobs.values() if job.view.stage == Stage.COLLECT]) == 1
    assert world.stored() == {1}


def test_revisions_do_not_wait_for_a_collection() -> None:
    world = World(spec=cycle_spec(history={"iterations": 2, "keepPromoted": 1, "keepCandidates": 0}))
    for _ in range(6):
        world.annotations["alignment.dev/run"] = f"after {world.iteration.get('number', 0)}"
        world.quality = "hacked"
        for _ in range(30):
            world.pass_()
            world.reap()
            for name in world.active():
                if "-collect-" not in name:
                    world.succeed(name)
    assert any("-collect-" in name for name in world.active())
    assert len(world.frozen) == 3


def test_revisions_go_with_the_history() -> None:
    world = World(spec=cycle_spec(history={"iterations": 4}))
    iterate(world, *["hacked"] * 7)
    assert sorted(world.frozen) == [4, 5, 6, 7]
    assert [row["number"] for row in world.status["history"]] == [7, 6, 5, 4]

"""Rollback: what was promoted before is promoted again, and the next promotion takes a person."""

from __future__ import annotations

import pytest

from tests.operator.plan_world import World, cycle_spec
from tests.operator.test_plan_cycle import condition, until_held


def promoted(iterations: int, **changes: object) -> World:
    """After so many iterations, each of which promoted its candidate."""
    world = World(spec=cycle_spec(**changes))
    for number in range(1, iterations + 1):
        world.annotations["alignment.dev/run"] = str(number)
        world.settle()
    assert world.status["promoted"]["iteration"] == iterations
    return world


def back_to(world: World, value: str) -> list[str]:
    """The reasons of the events of the pass that sees it."""
    world.annotations["alignment.dev/rollback"] = value
    reasons = [event.reason for event in world.pass_().events]
    world.settle()
    return reasons


def test_the_checkpoint_of_an_earlier_iteration_serves_again() -> None:
    world = promoted(3)
    first = world.status["promotions"][-1]
    last = world.status["promoted"]
    assert back_to(world, "1@ticket-123") == ["RolledBack"]
    now = world.status["promoted"]
    assert (now["iteration"], now["digest"], now["rolledBack"]) == (1, first["digest"], True)
    assert now["evidenceDigest"] == first["evidenceDigest"]
    assert (world.target.value, world.target.digest) == (first["uri"], first["digest"])
    assert [each["iteration"] for each in world.status["promotions"]] == [3, 2]
    assert world.status["promotions"][0]["digest"] == last["digest"]
    assert world.status["handled"]["rollback"] == "1@ticket-123"


def test_it_is_told_of_the_iteration_that_was_in_service() -> None:
    world = promoted(3)
    back_to(world, "2@ticket-123")
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("RolledBack", "RolledBack")
    assert (
        world.iteration["message"] == "rolled back to what iteration 2 promoted, by a person (2@ticket-123)"
    )
    assert {row["number"]: row["outcome"] for row in world.status["history"]} == {
        3: "RolledBack",
        2: "Promoted",
        1: "Promoted",
    }
    assert condition(world, "Promoted")["status"] == "False"
    assert condition(world, "Ready")["status"] == "True"


def test_the_same_request_is_acted_on_once_and_another_leads_forward_again() -> None:
    world = promoted(2)
    back_to(world, "1@a")
    assert not world.pass_().events
    back_to(world, "2@b")
    assert world.status["promoted"]["iteration"] == 2
    back_to(world, "1@c")
    assert world.status["promoted"]["iteration"] == 1
    assert [each["iteration"] for each in world.status["promotions"]] == [2]


def test_what_is_gone_back_to_is_told_as_promoted_again() -> None:
    world = promoted(2)
    back_to(world, "1@a")
    back_to(world, "2@b")
    assert (world.iteration["outcome"], world.iteration["reason"]) == ("Promoted", "RolledBack")
    assert condition(world, "Promoted")["status"] == "True"
    told = {row["number"]: row["outcome"] for row in world.status["history"]}
    assert told == {1: "RolledBack", 2: "Promoted"}
    back_to(world, "0@c")
    back_to(world, "1@d")
    told = {row["number"]: row["outcome"] for row in world.status["history"]}
    assert told == {1: "Promoted", 2: "RolledBack"}


def test_m0_can_be_gone_back_to() -> None:
    world = promoted(1)
    initial = world.status["initial"]
    assert back_to(world, "0@broken") == ["RolledBack"]
    assert world.target.digest == world.status["promoted"]["digest"] == initial["digest"]
    assert world.status["promoted"]["iteration"] == 0
    assert world.iteration["message"] == "rolled back to M_0, by a person (0@broken)"


def test_the_next_promotion_needs_an_approval_and_the_one_after_it_none() -> None:
    world = promoted(2)
    back_to(world, "1@a")
    before = world.status["promoted"]
    world.annotations["alignment.dev/run"] = "again"
    until_held(world)
    assert "what is promoted came by a rollback" in world.iteration["message"]
    assert world.iteration["incumbent"]["digest"] == before["digest"]
    world.annotations["alignment.dev/approve"] = f"3@{world.iteration['evidenceDigest']}"
    world.settle()
    assert world.status["promoted"]["iteration"] == 3
    assert "rolledBack" not in world.status["promoted"]
    world.annotations["alignment.dev/run"] = "and again"
    world.settle()
    assert world.status["promoted"]["iteration"] == 4


def test_pairs_of_what_was_rolled_back_are_new_again() -> None:
    world = promoted(2)
    world.status["promotions"][0]["datasets"] = [{"name": "people", "pairs": 100}]
    world.status["promoted"]["datasets"] = [{"name": "people", "pairs": 900}]
    back_to(world, "1@a")
    assert world.status["promoted"]["datasets"] == [{"name": "people", "pairs": 100}]


def test_a_running_iteration_ends_with_it() -> None:
    world = promoted(2)
    world.annotations["alignment.dev/run"] = "again"
    world.pass_()
    world.pass_()
    assert world.active()
    assert back_to(world, "1@a") == ["IterationCancelled", "RolledBack"]
    assert not world.active()
    assert (world.iteration["number"], world.iteration["outcome"]) == (3, "Cancelled")
    assert world.iteration["reason"] == "RolledBack"
    assert {row["number"]: row["outcome"] for row in world.status["history"]}[2] == "RolledBack"


def test_it_is_heard_while_the_cycle_is_suspended() -> None:
    world = promoted(2)
    world.spec = cycle_spec(suspend=True)
    back_to(world, "1@a")
    assert world.status["promoted"]["iteration"] == 1
    assert world.target.digest == world.status["promoted"]["digest"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("7@a", "iteration 7 promoted nothing that is known and kept; choose of: 0, 1"),
        ("2@a", "what iteration 2 promoted is what is promoted; choose of: 0, 1"),
        ("the last one", "write NUMBER@WHY, as in 5@ticket-123; 0 is M_0"),
        ("1@", "write NUMBER@WHY, as in 5@ticket-123; 0 is M_0"),
    ],
)
def test_what_cannot_be_gone_back_to_is_said_once(value: str, said: str) -> None:
    world = promoted(2)
    world.annotations["alignment.dev/rollback"] = value
    (event,) = world.pass_().events
    assert (event.reason, event.message) == ("InvalidAnnotation", f"rollback {value}: {said}")
    assert not world.pass_().events
    assert world.status["promoted"]["iteration"] == 2


def test_before_the_first_promotion_there_is_nothing_to_go_back_from() -> None:
    world = World()
    world.annotations["alignment.dev/rollback"] = "0@a"
    assert [event.message for event in world.pass_().events] == ["rollback 0@a: nothing was promoted yet"]


def test_a_checkpoint_that_retention_has_let_go_is_not_gone_back_to() -> None:
    world = promoted(4, history={"iterations": 10, "keepPromoted": 2, "keepCandidates": 1})
    assert [each["iteration"] for each in world.status["promotions"]] == [3, 2, 1]
    back_to(world, "1@a")
    assert world.status["promoted"]["iteration"] == 4
    back_to(world, "3@a")
    assert world.status["promoted"]["iteration"] == 3


def test_a_crash_between_its_actions_and_its_status_does_nothing_twice() -> None:
    world = promoted(2)
    world.annotations["alignment.dev/run"] = "again"
    world.pass_()
    world.pass_()
    world.annotations["alignment.dev/rollback"] = "1@a"
    world.pass_(crash_after=1)
    world.settle()
    assert world.status["promoted"]["iteration"] == 1
    assert world.iteration["outcome"] == "Cancelled"
    assert not world.active()

"""As many iterations run as the operator lets run at once: what another cycle that is due does."""

from __future__ import annotations

from datetime import timedelta

import pytest

from alignment_operator.planned import Freeze
from tests.operator.plan_world import START, World, cycle_spec

DAILY = {"schedule": "0 4 * * *"}


def condition(world: World, kind: str) -> tuple[str, str]:
    return next((row["status"], row["reason"]) for row in world.status["conditions"] if row["type"] == kind)


def due(**trigger: object) -> World:
    """Something asks for an iteration, and every place is taken."""
    world = World(spec=cycle_spec(**({"trigger": trigger} if trigger else {})), has_turn=False)
    world.pass_()
    if trigger:
        world.now = START + timedelta(hours=1)
    else:
        world.annotations["alignment.dev/run"] = "1"
    return world


@pytest.mark.parametrize("trigger", [{}, DAILY])
def test_it_waits_says_so_once_and_starts_when_it_has_its_turn(trigger: dict[str, object]) -> None:
    world = due(**trigger)
    waits = world.pass_()
    assert (waits.waits_for_turn, waits.runs, waits.actions) == (True, False, ())
    assert condition(world, "Ready") == ("True", "WaitingForTurn"), "nothing is amiss"
    assert condition(world, "Iterating") == ("False", "WaitingForTurn")
    before = dict(world.status)
    world.pass_()
    assert world.status == before
    world.has_turn = True
    begins = world.pass_()
    assert any(isinstance(action, Freeze) for action in begins.actions)
    assert (begins.waits_for_turn, begins.runs) == (False, True)


def test_a_slot_that_has_no_turn_within_its_starting_deadline_is_missed_and_the_event_says_why() -> None:
    world = due(**DAILY, startingDeadlineSeconds=600)
    world.pass_()
    world.now += timedelta(minutes=11)
    (missed,) = world.pass_().events
    assert missed.reason == "ScheduleMissed"
    assert "as many run" in missed.message
    world.has_turn = True
    assert not world.pass_().runs


def test_whoever_no_longer_asks_no_longer_waits() -> None:
    world = due()
    assert world.pass_().waits_for_turn
    del world.annotations["alignment.dev/run"]
    assert not world.pass_().waits_for_turn
    assert condition(world, "Iterating") == ("False", "Idle")


def test_an_iteration_that_a_person_or_a_suspension_holds_takes_no_place() -> None:
    world = World(spec=cycle_spec(promotion={"mode": "Manual"}))
    world.annotations["alignment.dev/run"] = "1"
    runs: list[bool] = []
    while not (runs and condition(world, "WaitingForApproval")[0] == "True"):
        runs.append(world.pass_().runs)
        for name in world.working():
            world.succeed(name)
    assert runs[1:] == [True] * (len(runs) - 2) + [False]

    world = World(spec=cycle_spec())
    world.annotations["alignment.dev/run"] = "1"
    world.pass_()
    assert world.pass_().runs
    world.spec = cycle_spec(suspend=True)
    assert not world.pass_().runs

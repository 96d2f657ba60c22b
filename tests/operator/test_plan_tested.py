"""The tests of the win rate since M_0 are counted, and what of α they spend."""

from __future__ import annotations

import pytest

from alignment_api import cycle_status
from alignment_api.stage import CompareParameters, Stage
from alignment_operator.explain.explanation import explained
from tests.operator.plan_world import World, cycle_spec

GATES = {"winRate": {}, "onInconclusive": "Reject"}


def ran(world: World, number: int) -> None:
    world.annotations["alignment.dev/run"] = str(number)
    world.settle()


def test_every_candidate_that_was_compared_counts_whatever_became_of_it() -> None:
    world = World(spec=cycle_spec(gates=GATES))
    for number, quality in enumerate(("good", "hacked", "unclear"), 1):
        world.quality = quality
        ran(world, number)
    assert [row["outcome"] for row in world.status["history"]] == ["Rejected", "Rejected", "Promoted"]
    assert world.status["tested"] == {"candidates": 3, "passed": 1, "alphaSpentPercent": 7.5}


def test_the_level_is_that_of_the_frozen_spec() -> None:
    world = World(spec=cycle_spec(gates=GATES))
    ran(world, 1)
    evaluation = world.spec.evaluation.model_copy(update={"confidence_percent": 99.0})
    world.spec = world.spec.model_copy(update={"evaluation": evaluation})
    ran(world, 2)
    assert world.status["tested"] == {"candidates": 2, "passed": 2, "alphaSpentPercent": 3.0}


def test_what_was_not_compared_spends_nothing() -> None:
    world = World(spec=cycle_spec(gates={}))
    ran(world, 1)
    assert "tested" not in world.status
    world = World(spec=cycle_spec(gates=GATES))
    world.annotations["alignment.dev/run"] = "1"
    world.pass_()
    world.pass_()
    world.annotations["alignment.dev/cancel"] = "1"
    world.settle()
    assert "tested" not in world.status


def test_one_that_is_held_is_counted_once() -> None:
    world = World(spec=cycle_spec(promotion={"mode": "Manual"}))
    world.annotations["alignment.dev/run"] = "1"
    world.settle()
    for _ in range(3):
        world.pass_()
    assert world.status["tested"]["candidates"] == 1
    world.annotations["alignment.dev/approve"] = f"1@{world.iteration['evidenceDigest']}"
    world.settle()
    assert world.status["tested"]["candidates"] == 1


def test_a_lost_status_forgets_no_test() -> None:
    """The last one counts as not passed, for nobody remembers."""
    world = World(spec=cycle_spec(gates=ELOND), quality="hacked")
    for number in (1, 2):
        ran(world, number)
    world.status = {}
    ran(world, 3)
    assert world.status["tested"] == {"candidates": 3, "passed": 0, "alphaSpentPercent": 4.5}
    assert compare_level(world, 3) == pytest.approx(0.5)


def test_a_start_that_was_cut_short_counts_once() -> None:
    world = World(spec=cycle_spec(gates=ELOND))
    ran(world, 1)
    world.annotations["alignment.dev/run"] = "2"
    world.pass_(crash_after=1)
    assert list(world.frozen) == [1, 2]
    world.settle()
    assert world.status["tested"]["candidates"] == 2


def test_the_gate_says_what_is_spent() -> None:
    world = World(spec=cycle_spec(gates=GATES))
    ran(world, 1)
    status = world.observe().status
    assert status.iteration is not None
    year = cycle_status.Tested(candidates=52, passed=1, alpha_spent_percent=130)
    one, many = (
        next(
            gate.note
            for gate in explained(status.iteration, world.spec, "", "", tested).gates
            if gate.name == "winRate"
        )
        for tested in (status.tested, year)
    )
    assert one.startswith("1 candidate was tested since M_0, and the α spent is 2.5 %: the chance, at most,")
    assert many.startswith("52 candidates were tested since M_0, and the α spent is 130 %: no bound any more")


ELOND = {"winRate": {"falseDiscoveryPercent": 6}, "onInconclusive": "Reject"}


def compare_level(world: World, number: int) -> float | None:
    (config,) = [
        job.config
        for job in world.jobs.values()
        if job.config.iteration == number and job.config.stage == Stage.COMPARE
    ]
    assert isinstance(config.parameters, CompareParameters)
    return config.parameters.level_percent


def test_the_level_falls_with_the_tests_and_rises_with_those_that_passed() -> None:
    """6 % · (passed + 1) / (t (t + 1)): 3, then 2 (one passed), then 1 (no other did)."""
    world = World(spec=cycle_spec(gates=ELOND))
    for number, quality in enumerate(("good", "unclear", "unclear"), 1):
        world.quality = quality
        ran(world, number)
    levels = [compare_level(world, number) for number in (1, 2, 3)]
    assert levels == pytest.approx([3.0, 2.0, 1.0])
    assert world.status["tested"] == {"candidates": 3, "passed": 1, "alphaSpentPercent": 6.0}
    assert world.iteration["levelPercent"] == pytest.approx(1.0)


def test_what_was_frozen_at_the_start_counts_to_the_end() -> None:
    world = World(spec=cycle_spec(gates=ELOND))
    world.annotations["alignment.dev/run"] = "1"
    world.pass_()
    world.pass_()
    world.spec = cycle_spec(gates=GATES)
    world.settle()
    assert compare_level(world, 1) == pytest.approx(3.0)
    assert world.iteration["outcome"] == "Promoted"
    ran(world, 2)
    assert compare_level(world, 2) is None

"""How many iterations run at once, and in which order the others come."""

from __future__ import annotations

import pytest

from alignment_operator.runtime.turns import Turns


def test_without_a_limit_everybody_has_a_turn_and_nobody_is_woken() -> None:
    turns: Turns[str] = Turns(None)
    assert all(turns.offer(key) for key in "abc")
    assert not turns.settle("a", runs=True, waits=False)
    assert not turns.settle("a", runs=False, waits=False)


def test_a_place_that_is_offered_is_nobody_elses_until_it_is_given_back() -> None:
    turns: Turns[str] = Turns(1)
    assert turns.offer("a")
    assert not turns.offer("b")
    assert not turns.settle("b", runs=False, waits=True)
    assert turns.fail("a") == ("b",)
    assert turns.offer("b")


def test_who_fails_when_it_has_its_turn_lets_the_others_go_first() -> None:
    turns: Turns[str] = Turns(1)
    for key in "bc":
        turns.settle(key, runs=False, waits=True)
    assert turns.offer("b")
    assert turns.fail("b") == ("c",)
    assert turns.offer("c")


@pytest.mark.parametrize("ends", [{"runs": False, "waits": False}, {"runs": False, "waits": True}])
def test_those_who_wait_come_in_their_order_and_before_any_other(ends: dict[str, bool]) -> None:
    turns: Turns[str] = Turns(1)
    assert turns.offer("a")
    turns.settle("a", runs=True, waits=False)
    for key in "bc":
        assert not turns.offer(key)
        turns.settle(key, runs=False, waits=True)
    assert turns.settle("a", **ends) == ("b",)
    assert not turns.offer("d")
    assert not turns.offer("c")
    assert turns.offer("b")
    assert not turns.settle("b", runs=True, waits=False)
    assert turns.settle("b", runs=False, waits=False) == ("c",)


def test_whoever_runs_goes_on_whatever_the_limit() -> None:
    """After a restart, or when a person lets a held iteration go on, there may be more than places."""
    turns: Turns[str] = Turns(1)
    for key in "ab":
        turns.settle(key, runs=True, waits=False)
    assert turns.offer("a")
    assert turns.offer("b")
    assert not turns.offer("c")
    assert not turns.settle("a", runs=False, waits=False)
    assert not turns.offer("c")


def test_who_no_longer_waits_is_passed_over() -> None:
    turns: Turns[str] = Turns(1)
    turns.settle("a", runs=True, waits=False)
    for key in "bc":
        turns.settle(key, runs=False, waits=True)
    turns.settle("b", runs=False, waits=False)
    assert turns.settle("a", runs=False, waits=False) == ("c",)

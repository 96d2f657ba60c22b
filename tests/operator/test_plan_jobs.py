"""What the planner makes of a stage's Job, told as stories: losses, retries, deadlines, gangs."""

from __future__ import annotations

from datetime import timedelta

from alignment_operator.observed import PodView
from tests.operator.test_plan_cycle import started


def test_a_pod_on_a_lost_node_is_replaced_by_a_new_attempt_free_of_charge() -> None:
    world = started()
    name = world.active()[0]
    gone_by = world.now + timedelta(seconds=30)
    world.change(name, pod=PodView(started=True, gone_by=gone_by))
    decided = world.pass_()
    assert decided.wake_at == gone_by + timedelta(seconds=30)
    assert world.active() == [name]
    world.now = decided.wake_at
    world.pass_()
    assert not world.active()
    world.settle()
    first = world.iteration["stages"][0]
    assert world.iteration["outcome"] == "Promoted"
    assert (first["attempt"], first["disruptions"]) == (1, 1)

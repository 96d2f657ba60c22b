"""From any reachable state, with any order of results, losses and repeats, the planner converges.

It never has two live Jobs of a stage, starts nothing while suspended and nothing twice for a slot, and never promotes
without passing evidence for that very digest.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.gates import Verdict
from alignment_api.stage import ExitCode
from alignment_operator.observed import PodView
from alignment_operator.planned import CyclePlan, Freeze, StartJob
from tests.operator.plan_world import USER_FAULTS, World, cycle_spec

TRIGGERS = [
    None,
    {"schedule": "0 * * * *"},
    {"schedule": "*/7 * * * *", "cooldownSeconds": 600},
    {"newPairs": 100},
]


def spec(trigger: dict[str, object] | None, pods: int, *, suspend: bool) -> AlignmentCycleSpec:
    return cycle_spec(
        datasets=[{"name": "feedback"}],
        sampling={"shards": pods},
        training={"nodes": pods},
        suspend=suspend,
        **({"trigger": trigger} if trigger else {}),
    )


class AnyOrder(RuleBasedStateMachine):
    """Every accident, at any moment."""

    @initialize(
        quality=st.sampled_from(["good", "hacked", "unclear"]),
        pods=st.sampled_from([1, 2]),
        trigger=st.sampled_from(TRIGGERS),
    )
    def begin(self, quality: str, pods: int, trigger: dict[str, object] | None) -> None:
        self.pods = pods
        live = spec(trigger, pods, suspend=False)
        self.world = World(spec=live, quality=quality, datasets={"feedback": 100})
        self.runs = 0
        self.slots: dict[str, int] = {}  # the iteration that started for it
        self.approved: set[str] = set()  # evidence that a person has named

    @rule()
    def ask(self) -> None:
        self.runs += 1
        self.world.annotations["alignment.dev/run"] = str(self.runs)

    @rule()
    def whole_pass(self) -> None:
        self.check(self.world.pass_())

    @rule(after=st.integers(0, 3))
    def killed_pass(self, after: int) -> None:
        self.check(self.world.pass_(crash_after=after))

    def check(self, decided: CyclePlan) -> None:
        if self.world.spec.suspend:
            assert not any(isinstance(action, StartJob | Freeze) for action in decided.actions)
        if not self.world.has_turn:
            assert not any(isinstance(action, Freeze) for action in decided.actions)
        number: int = self.world.iteration.get("number", 0)
        slot = self.world.frozen[number].slot if number in self.world.frozen else ""
        if slot:
            assert self.slots.setdefault(slot, number) == number

    @rule(trigger=st.sampled_from(TRIGGERS), suspend=st.booleans())
    def somebody_edits_the_spec(self, trigger: dict[str, object] | None, suspend: bool) -> None:
        self.world.spec = spec(trigger, self.pods, suspend=suspend)
        self.world.generation += 1

    @rule(has_turn=st.booleans())
    def other_cycles_take_or_leave_the_places(self, has_turn: bool) -> None:
        self.world.has_turn = has_turn

    @rule(pairs=st.sampled_from([100, 150, 400, None]))
    def a_dataset_is_refreshed(self, pairs: int | None) -> None:
        self.world.datasets["feedback"] = pairs

    @rule(quality=st.sampled_from(["good", "hacked", "unclear"]))
    def models_differ(self, quality: str) -> None:
        self.world.quality = quality

    @rule(seconds=st.sampled_from([1, 61, 3601, -1800]))
    def time_passes(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.world.working())
    @rule(data=st.data(), lost=st.booleans())
    def job_succeeds(self, data: st.DataObject, lost: bool) -> None:
        self.world.succeed(data.draw(st.sampled_from(self.world.working())), lose_result=lost)

    @precondition(lambda self: self.world.working())
    @rule(
        data=st.data(),
        code=st.sampled_from([1, 137, ExitCode.INPUT_MISSING, *USER_FAULTS]),
        disrupted=st.booleans(),
    )
    def job_fails(self, data: st.DataObject, code: int, disrupted: bool) -> None:
        self.world.fail(data.draw(st.sampled_from(self.world.working())), code, disrupted=disrupted)

    @precondition(lambda self: self.world.working())
    @rule(data=st.data(), started=st.booleans())
    def pod_starts_or_is_replaced(self, data: st.DataObject, started: bool) -> None:
        name = data.draw(st.sampled_from(self.world.working()))
        self.world.change(name, pod=PodView(started=started))

    @precondition(lambda self: self.world.active())
    @rule(data=st.data(), started=st.booleans())
    def its_node_is_lost(self, data: st.DataObject, started: bool) -> None:
        name = data.draw(st.sampled_from(self.world.active()))
        gone_by = self.world.now + timedelta(seconds=30)
        self.world.change(name, pod=PodView(started=started, gone_by=gone_by))

    @precondition(lambda self: self.world.active())
    @rule(data=st.data(), suspended=st.booleans())
    def a_queue_evicts_or_admits_it(self, data: st.DataObject, suspended: bool) -> None:
        name = data.draw(st.sampled_from(self.world.active()))
        self.world.change(name, suspended=suspended, queue="team-a", pod=None)

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def somebody_deletes_a_job(self, data: st.DataObject) -> None:
        del self.world.jobs[data.draw(st.sampled_from(sorted(self.world.jobs)))]

    @rule()
    def deletions_end(self) -> None:
        self.world.reap()

    @rule(verb=st.sampled_from(["cancel", "reject"]), number=st.integers(0, 3))
    def person_decides(self, verb: str, number: int) -> None:
        self.world.annotations[f"alignment.dev/{verb}"] = str(number)

    @rule(right=st.booleans())
    def person_approves(self, right: bool) -> None:
        digest = self.world.iteration.get("evidenceDigest") if right else None
        number = self.world.iteration.get("number", 1)
        self.world.annotations["alignment.dev/approve"] = f"{number}@{digest or 'sha256:0123'}"
        self.approved |= {digest} if digest else set()

    @rule(manager=st.sampled_from([None, "kubectl-edit"]))
    def somebody_edits_the_target(self, manager: str | None) -> None:
        if self.world.target.exists:
            self.world.target = replace(self.world.target, value="pvc://wrong", held_by=manager)

    @precondition(lambda self: self.world.target.digest)
    @rule()
    def status_is_lost_and_adopted(self) -> None:
        before = self.world.target
        self.world.status = {}
        self.world.pass_()
        assert self.world.target == before
        self.world.annotations["alignment.dev/adopt"] = before.digest or ""
        self.world.pass_()
        self.world.pass_()

    @invariant()
    def one_live_job_a_stage(self) -> None:
        if not hasattr(self, "world"):
            return
        live = self.world.live()
        assert len({(job.iteration, job.stage) for job in live}) == len(live)

    @invariant()
    def nothing_is_promoted_without_proof(self) -> None:
        if not hasattr(self, "world"):
            return
        promoted = self.world.status.get("promoted")
        digests = {promoted["digest"]} if promoted else set()
        if self.world.target.digest:
            digests.add(self.world.target.digest)
        for digest in digests:
            sealed = [seal for seal in self.world.sealed.values() if seal.evidence.candidate_digest == digest]
            assert sealed, f"{digest} is promoted without sealed evidence"
            for seal in sealed:
                verdicts = {gate.verdict for gate in seal.evidence.gates}
                assert Verdict.FAILED not in verdicts
                assert Verdict.ERROR not in verdicts
                assert verdicts == {Verdict.PASSED} or seal.evidence_digest in self.approved

    @invariant()
    def no_gang_is_tried_more_often_than_its_retries(self) -> None:
        if not hasattr(self, "world"):
            return
        stages = self.world.iteration.get("stages", [])
        assert all(stage.get("failures", 0) <= self.world.spec.defaults.retries for stage in stages)

    @invariant()
    def nothing_is_computed_twice(self) -> None:
        if hasattr(self, "world"):
            assert all(times == 1 for times in self.world.computed.values())

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.spec = spec(None, self.pods, suspend=False)
        self.world.settle()
        for _ in range(3):
            status = self.world.status
            decided = self.world.pass_()
            assert not decided.actions
            assert self.world.status == status


AnyOrder.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
test_any_order = AnyOrder.TestCase

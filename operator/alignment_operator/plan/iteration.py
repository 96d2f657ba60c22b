"""The running iteration: stage after stage, then the gates, then a decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from alignment_api.conditions import Reason
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import AlignmentCycleStatus, Iteration, Outcome, StageStatus
from alignment_api.gates import GateResult
from alignment_api.pods import PodDefaults, settled
from alignment_api.stage import ExitCode, Located, Stage, StageConfig, StageResult
from alignment_operator.gates import contamination, verdicts
from alignment_operator.gates.decision import Decision, DecisionKind, decide
from alignment_operator.observed import Frozen, ObservedCycle
from alignment_operator.plan import evidence, finish, pipeline, stage, start, suspension, tested
from alignment_operator.plan.verbs import Request
from alignment_operator.planned import CyclePlan, DeleteJob, Event


def advance(observed: ObservedCycle, requests: dict[str, Request], now: datetime) -> CyclePlan:
    """One step of the iteration in `observed.status`, which has no outcome yet."""
    iteration = observed.status.iteration
    assert iteration is not None
    frozen = observed.frozen.get(iteration.number)
    if frozen is None:
        message = f"ControllerRevision {iteration.revision} is gone, and with it what the iteration froze"
        return _end(observed, observed.status, iteration, "Failed", Reason.FROZEN_SPEC_LOST, message, now)
    cancel = requests.get("cancel")
    if cancel and cancel.number == iteration.number:
        return _ended_by_a_person(observed, iteration, "Cancelled", Reason.CANCELLED, now)
    reject = requests.get("reject")
    if reject and reject.number == iteration.number:
        return _ended_by_a_person(observed, iteration, "Rejected", Reason.REJECTED_BY_PERSON, now)
    entry = _current(frozen, iteration)
    if entry is not None:
        return _stage(observed, frozen, iteration, entry, now)
    if not iteration.gates:
        return _judged(observed, frozen, iteration, now)
    if iteration.stages[-1].name == Stage.PROMOTE:
        if suspension.holds(observed):
            return CyclePlan((), observed.status)
        return _promoted(observed, iteration, now)
    return _held(observed, frozen, iteration, requests, now)


def _current(frozen: Frozen, iteration: Iteration) -> StageStatus | None:
    """The stage that is not done: the running one, or the next; None when only the decision is left."""
    for entry in iteration.stages:
        if entry.state != "Succeeded":
            return entry
    done = {entry.name for entry in iteration.stages}
    for name in pipeline.stages(frozen.spec):
        if name not in done:
            return StageStatus(name=name, state="Pending")
    return None


def current_config(observed: ObservedCycle) -> tuple[StageStatus, StageConfig] | None:
    """The stage that waits for a Job and what that Job computes; None if no Job is awaited."""
    iteration = observed.status.iteration
    if iteration is None or iteration.outcome or iteration.number not in observed.frozen:
        return None
    frozen = observed.frozen[iteration.number]
    entry = _current(frozen, iteration)
    if entry is None:
        return None
    return entry, _config(observed, frozen, iteration, entry.name)


def stages_to_come(observed: ObservedCycle) -> frozenset[Stage]:
    """Stages of the running iteration that have not begun, the next one left out."""
    iteration = observed.status.iteration
    if iteration is None or iteration.outcome or iteration.number not in observed.frozen:
        return frozenset()
    frozen = observed.frozen[iteration.number]
    entry = _current(frozen, iteration)
    begun = {stage.name for stage in iteration.stages} | ({entry.name} if entry else set())
    return frozenset({*pipeline.stages(frozen.spec), Stage.PROMOTE} - begun)


def _config(observed: ObservedCycle, frozen: Frozen, iteration: Iteration, name: Stage) -> StageConfig:
    sealed = evidence.of(observed.owner, frozen, iteration) if name == Stage.PROMOTE else None
    context = pipeline.Context(observed.owner, frozen, iteration, observed.status.initial, sealed)
    return pipeline.stage_config(name, context)


def _stage(
    observed: ObservedCycle, frozen: Frozen, iteration: Iteration, entry: StageStatus, now: datetime
) -> CyclePlan:
    if suspension.holds(observed):
        paused = suspension.paused(entry, observed.jobs)
        if paused is not None:
            return CyclePlan((), _with_stage(observed.status, iteration, paused))
    progress = stage.advance(
        suspension.resumed(entry),
        _config(observed, frozen, iteration, entry.name),
        observed.owner.name,
        observed.jobs,
        pods(observed, frozen, entry.name),
        now,
        wait_for_inputs=observed.settings.wait_for_inputs,
    )
    after = progress.status
    status = _with_stage(observed.status, iteration, after)
    assert status.iteration is not None
    iteration = status.iteration
    if after.state == "Failed" and after.reason == ExitCode.CONTAMINATED.reason:
        plan = _refused(observed, status, contamination.stopped(after.message or ""), now)
        return replace(plan, actions=(*progress.actions, *plan.actions))
    if after.state == "Failed":
        message = f"stage {after.name.value} failed: {after.message}"
        plan = _end(observed, status, iteration, "Failed", after.reason or Reason.JOB_FAILED, message, now)
        return replace(plan, actions=(*progress.actions, *plan.actions))
    if after.state == "Succeeded":
        status = _learned(status, frozen, iteration, after)
        if refused := verdicts.refused_early(frozen.spec, _results(iteration)):
            plan = _refused(observed, status, refused, now)
            return replace(plan, actions=(*progress.actions, *plan.actions))
    return CyclePlan(progress.actions, status, _stage_events(entry, after, iteration), progress.wake_at)


def _with_stage(
    status: AlignmentCycleStatus, iteration: Iteration, entry: StageStatus
) -> AlignmentCycleStatus:
    others = [other for other in iteration.stages if other.name != entry.name]
    now_at = iteration.model_copy(update={"stages": [*others, entry], "stage": entry.name})
    return status.model_copy(update={"iteration": now_at})


def _stage_events(before: StageStatus, after: StageStatus, iteration: Iteration) -> tuple[Event, ...]:
    where = f"iteration {iteration.number}: stage {after.name.value}"
    if after.job and before.job is None:
        return (Event("StageStarted", f"{where} started as Job {after.job}"),)
    if after.attempt > before.attempt:
        return (Event("StageRetried", f"{where} is tried again: {after.message}", warning=True),)
    if after.state == "Succeeded" and after.message:
        return (Event(ExitCode.TRAINING_DIVERGED.reason, f"{where}: {after.message}", warning=True),)
    return ()


def _learned(
    status: AlignmentCycleStatus, frozen: Frozen, iteration: Iteration, done: StageStatus
) -> AlignmentCycleStatus:
    """What a finished stage adds to the iteration: digests of inputs, the incumbent, the candidate."""
    assert done.result is not None
    inputs = iteration.inputs | done.result.inputs
    if done.name == Stage.REWARD and done.result.model:
        inputs |= dict.fromkeys(pipeline.judges_trained_here(frozen.spec), done.result.model.digest)
    initial = status.initial
    first_digest = inputs.get("initial") or (inputs.get("policy") if frozen.incumbent is None else None)
    if initial is None and first_digest:
        initial = Located(uri=frozen.spec.policy.model, digest=first_digest)
    iteration = iteration.model_copy(
        update={
            "inputs": inputs,
            "incumbent": iteration.incumbent or initial,
            "candidate": done.result.model if done.name == Stage.TRAIN else iteration.candidate,
        }
    )
    return status.model_copy(update={"iteration": iteration, "initial": initial})


def pods(observed: ObservedCycle, frozen: Frozen, name: Stage) -> PodDefaults:
    """Resources, deadlines and retries are the live spec's, so that they can be mended; the image is frozen."""
    live = settled_pods(observed.spec or frozen.spec, name)
    return live.model_copy(update={"image": settled_pods(frozen.spec, name).image})


def settled_pods(spec: AlignmentCycleSpec | None, name: Stage) -> PodDefaults:
    """The spec's word on one stage's pods. `promote` and `collect` compute nothing, so they get no accelerator."""
    if spec is None:
        return PodDefaults()
    found = settled(spec.defaults, spec.override(name))
    if name not in {Stage.PROMOTE, Stage.COLLECT} or found.resources is None:
        return found
    return found.model_copy(update={"resources": found.resources.without_extended()})


def _judged(observed: ObservedCycle, frozen: Frozen, iteration: Iteration, now: datetime) -> CyclePlan:
    """The gates' verdicts and the decision that follows from them."""
    gates = _verdicts(frozen, iteration)
    iteration = iteration.model_copy(update={"gates": list(gates)})
    sealed = evidence.of(observed.owner, frozen, iteration).digest()
    iteration = iteration.model_copy(update={"evidence_digest": sealed})
    spent = tested.counted(observed.status.tested, gates, frozen.spec, iteration.level_percent)
    status = observed.status.model_copy(update={"iteration": iteration, "tested": spent})
    decision = decide(gates, frozen.spec.gates.on_inconclusive, _needs_approval(observed, frozen))
    return _decided(observed, status, iteration, decision, now)


def _needs_approval(observed: ObservedCycle, frozen: Frozen) -> str:
    """Why a person has to agree; empty if nobody has to."""
    if frozen.spec.promotion.mode == "Manual":
        return "promotion.mode is Manual"
    promoted = observed.status.promoted
    return "what is promoted came by a rollback" if promoted and promoted.rolled_back else ""


def _verdicts(frozen: Frozen, iteration: Iteration) -> Sequence[GateResult]:
    assert iteration.candidate is not None
    return verdicts.judge_all(frozen.spec, _results(iteration), iteration.inputs, iteration.candidate)


def _results(iteration: Iteration) -> dict[Stage, StageResult]:
    return {entry.name: entry.result for entry in iteration.stages if entry.result}


def _refused(
    observed: ObservedCycle, status: AlignmentCycleStatus, gate: GateResult, now: datetime
) -> CyclePlan:
    """By one gate, before the others had anything to look at."""
    assert status.iteration is not None
    iteration = status.iteration.model_copy(update={"gates": [gate]})
    message = f"refused by {gate.name}: {gate.message}"
    return _end(observed, status, iteration, "Rejected", gate.reason or gate.name, message, now)


def _decided(
    observed: ObservedCycle,
    status: AlignmentCycleStatus,
    iteration: Iteration,
    decision: Decision,
    now: datetime,
) -> CyclePlan:
    match decision.kind:
        case DecisionKind.PROMOTE:
            return _sealing(status, iteration, decision.reason, decision.message, now)
        case DecisionKind.HOLD:
            iteration = iteration.model_copy(update={"reason": decision.reason, "message": decision.message})
            status = status.model_copy(update={"iteration": iteration})
            event = Event("WaitingForApproval", f"iteration {iteration.number}: {decision.message}"[:1024])
            return CyclePlan((), status, (event,))
        case DecisionKind.REJECT:
            return _end(observed, status, iteration, "Rejected", decision.reason, decision.message, now)
        case DecisionKind.FAIL:
            return _end(observed, status, iteration, "Failed", decision.reason, decision.message, now)


def _sealing(
    status: AlignmentCycleStatus, iteration: Iteration, reason: str, message: str, now: datetime
) -> CyclePlan:
    """The stage `promote` comes next; the reason is why it may."""
    iteration = iteration.model_copy(
        update={
            "reason": str(reason),
            "message": message,
            "stage": Stage.PROMOTE,
            "stages": [*iteration.stages, StageStatus(name=Stage.PROMOTE, state="Pending")],
        }
    )
    return CyclePlan((), status.model_copy(update={"iteration": iteration}), (), now)


def _held(
    observed: ObservedCycle,
    frozen: Frozen,
    iteration: Iteration,
    requests: dict[str, Request],
    now: datetime,
) -> CyclePlan:
    decision = decide(iteration.gates, frozen.spec.gates.on_inconclusive, _needs_approval(observed, frozen))
    if decision.kind != DecisionKind.HOLD:  # it ended, and somebody took its outcome away
        return _decided(observed, observed.status, iteration, decision, now)
    approve = requests.get("approve")
    if approve and approves(approve, iteration):
        return _sealing(
            observed.status,
            iteration,
            Reason.APPROVED,
            f"a person approved the evidence {approve.digest[:19]}",
            now,
        )
    return CyclePlan((), observed.status)


def approves(request: Request, iteration: Iteration) -> bool:
    """An approval names the iteration and (a prefix of) the digest of its evidence."""
    sealed = iteration.evidence_digest or ""
    return request.number == iteration.number and sealed.startswith(request.digest)


def waits_for_approval(iteration: Iteration | None) -> bool:
    return (
        iteration is not None
        and iteration.outcome is None
        and iteration.evidence_digest is not None
        and all(entry.name != Stage.PROMOTE for entry in iteration.stages)
    )


def _promoted(observed: ObservedCycle, iteration: Iteration, now: datetime) -> CyclePlan:
    """The evidence is sealed: swap, if nothing else was promoted meanwhile."""
    status = observed.status
    frozen = observed.frozen[iteration.number]
    assert iteration.candidate is not None
    if start.incumbent_of(observed) != frozen.incumbent:
        message = "another checkpoint was promoted since the iteration started; what it proves is not about that one"
        return _end(observed, status, iteration, "Failed", Reason.INCUMBENT_CHANGED, message, now)
    if unproven := _unproven(observed, frozen, iteration):
        return _end(observed, status, iteration, "Failed", Reason.EVIDENCE_MISMATCH, unproven, now)
    trained_from = status.promoted if frozen.spec.policy.start == "Previous" else None
    keep = (observed.spec or frozen.spec).history.keep_promoted
    status = finish.promote(status, iteration, iteration.candidate, trained_from, keep, now)
    reason = iteration.reason or Reason.ALL_GATES_PASSED
    return _end(observed, status, iteration, "Promoted", reason, iteration.message or "", now)


def _unproven(observed: ObservedCycle, frozen: Frozen, iteration: Iteration) -> str:
    """How status contradicts the evidence that was sealed; empty if it does not. Somebody may have edited it."""
    if evidence.of(observed.owner, frozen, iteration).digest() != iteration.evidence_digest:
        return f"status is not what the evidence {iteration.evidence_digest} says; it was changed meanwhile"
    again = [(gate.name, gate.verdict) for gate in _verdicts(frozen, iteration)]
    said = [(gate.name, gate.verdict) for gate in iteration.gates]
    if again != said:
        changed = ", ".join(name for name, verdict in again if (name, verdict) not in said)
        return f"the measurements do not give the verdicts in status: {changed or 'the gates are others'}"
    return ""


def _ended_by_a_person(
    observed: ObservedCycle, iteration: Iteration, outcome: Outcome, reason: Reason, now: datetime
) -> CyclePlan:
    """Heard at any moment before the swap; a rejection beats an approval."""
    stopped = _stopped(iteration, reason, now)
    message = f"{outcome.lower()} by a person"
    plan = _end(observed, observed.status, stopped, outcome, reason, message, now)
    return replace(plan, actions=_stop(observed, iteration))


def ended_by_rollback(observed: ObservedCycle, now: datetime) -> CyclePlan:
    """The running iteration, whose candidate would be compared with what is not promoted any more."""
    iteration = observed.status.iteration
    assert iteration is not None
    return _ended_by_a_person(observed, iteration, "Cancelled", Reason.ROLLED_BACK, now)


def _stopped(iteration: Iteration, reason: Reason, now: datetime) -> Iteration:
    """With its open stage ended, for nothing runs any more."""
    stages = [
        entry
        if entry.state in {"Succeeded", "Failed"}
        else stage.failed(entry, now, reason, "the iteration was ended by a person")
        for entry in iteration.stages
    ]
    return iteration.model_copy(update={"stages": stages})


def _stop(observed: ObservedCycle, iteration: Iteration) -> tuple[DeleteJob, ...]:
    """In this very pass: without a cluster there is no other."""
    running = {entry.job_uid for entry in iteration.stages if entry.state in {"Pending", "Running"}}
    return tuple(
        DeleteJob(job.name, job.uid) for job in observed.jobs if job.uid in running and not job.deleting
    )


def _end(
    observed: ObservedCycle,
    status: AlignmentCycleStatus,
    iteration: Iteration,
    outcome: Outcome,
    reason: str,
    message: str,
    now: datetime,
) -> CyclePlan:
    frozen = observed.frozen.get(iteration.number)
    spec = observed.spec or (frozen.spec if frozen else None)
    rows = spec.history.iterations if spec else len(status.history) + 1
    status = finish.finish(status, iteration, outcome, reason, message, rows, now)
    event = Event(
        f"Iteration{outcome}", f"iteration {iteration.number}: {message}"[:1024], outcome == "Failed"
    )
    return CyclePlan((), status, (event,), now)

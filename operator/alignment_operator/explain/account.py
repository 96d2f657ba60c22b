"""One iteration of a cycle as far as anything still tells of it.

The status has all of the last one. Of those before, it has a row; the ControllerRevision has what was frozen, the store
what the stages reported, and the verdicts follow from these two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alignment_api import names
from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.cycle_status import AlignmentCycleStatus, HistoryRow, Iteration, StageStatus, Tested
from alignment_api.gates import GateResult
from alignment_api.iteration_report import Explanation, ReportConfig
from alignment_api.stage import Stage, StageResult
from alignment_operator.explain.explanation import explained
from alignment_operator.gates.decision import decide
from alignment_operator.gates.verdicts import judge_all, refused_early
from alignment_operator.observed import Frozen, Owner
from alignment_operator.plan import pipeline

Results = Mapping[Stage, StageResult]


@dataclass(frozen=True)
class Account:
    """`unknown`: what could not be had, a sentence each."""

    iteration: Iteration
    spec: AlignmentCycleSpec | None
    unknown: tuple[str, ...] = ()
    tested: Tested | None = None

    def explanation(self, approve: str, reject: str) -> Explanation:
        """`approve` and `reject` are the commands that decide, if it is held."""
        return explained(self.iteration, self.spec, approve, reject, self.tested)


def of_the_last(iteration: Iteration, frozen: Frozen | None, tested: Tested | None = None) -> Account:
    """Of the iteration that status holds. `tested`: the tests since M_0, its own among them."""
    lost = (
        f"The ControllerRevision {iteration.revision} is gone, so that the limits and settings are not known."
    )
    return Account(iteration, frozen.spec if frozen else None, () if frozen else (lost,), tested)


def of_an_earlier(
    row: HistoryRow, status: AlignmentCycleStatus, frozen: Frozen | None, results: Results
) -> Account:
    """Of one that status has but a row of."""
    unknown = []
    candidate = results[Stage.TRAIN].model if Stage.TRAIN in results else None
    if candidate is not None and candidate.digest != row.candidate_digest:
        unknown.append(
            "The store holds another candidate than the history names, and nothing of it is shown."
        )
        results, candidate = {}, None
    elif not results:
        unknown.append(
            "Its measurements are not in the store any more, or could not be read."
            if row.candidate_digest
            else "It ended before it had a candidate, and the store has no result of its stages."
        )
    if frozen is None:
        name = f"iteration {row.number}"
        unknown.append(
            f"The ControllerRevision of {name} is gone, and with it its limits, settings and verdicts."
        )
    gates: tuple[GateResult, ...] = ()
    if frozen is not None and candidate is not None and Stage.EVALUATE in results:
        gates = judge_all(frozen.spec, results, _inputs(frozen.spec, results), candidate)
        told = "status keeps those of the last iteration alone"
        unknown.append(f"The verdicts are judged anew, by this version, from the stages' results: {told}.")
    elif frozen is not None and (refused := refused_early(frozen.spec, results)):
        gates = (refused,)
    return Account(
        iteration=_iteration(row, status, frozen, results, gates),
        spec=frozen.spec if frozen else None,
        unknown=tuple(unknown),
    )


def _inputs(spec: AlignmentCycleSpec, results: Results) -> dict[str, str]:
    inputs: dict[str, str] = {}
    for result in results.values():
        inputs |= result.inputs
    rewarded = results.get(Stage.REWARD)
    if rewarded is not None and rewarded.model is not None:
        inputs |= dict.fromkeys(pipeline.judges_trained_here(spec), rewarded.model.digest)
    return inputs


def _iteration(
    row: HistoryRow,
    status: AlignmentCycleStatus,
    frozen: Frozen | None,
    results: Results,
    gates: tuple[GateResult, ...],
) -> Iteration:
    """Without a frozen spec nobody knows when and by what it began: it is then as if it began when it ended."""
    promotions = [status.promoted, *status.promotions]
    sealed = next((each for each in promotions if each and each.iteration == row.number), None)
    trained = results.get(Stage.TRAIN)
    return Iteration(
        number=row.number,
        trigger=frozen.trigger if frozen else "Manual",
        outcome=row.outcome,
        reason=row.reason,
        message=_message(row, frozen, gates),
        generation=frozen.generation if frozen else 0,
        revision=frozen.name if frozen else "",
        started_at=(frozen.started_at if frozen else "") or row.finished_at,
        finished_at=row.finished_at,
        inputs=_inputs(frozen.spec, results) if frozen else {},
        datasets=list(frozen.datasets) if frozen else [],
        incumbent=frozen.incumbent or status.initial if frozen else None,
        candidate=trained.model if trained else None,
        stages=[
            StageStatus(name=stage, state="Succeeded", result=result)
            for stage, result in sorted(results.items(), key=lambda each: list(Stage).index(each[0]))
            if stage in _ORDER
        ],
        gates=list(gates),
        evidence_digest=sealed.evidence_digest if sealed else None,
    )


_ORDER = (Stage.REWARD, Stage.SAMPLE, Stage.JUDGE, Stage.TRAIN, Stage.EVALUATE, Stage.COMPARE, Stage.PROMOTE)


def _message(row: HistoryRow, frozen: Frozen | None, gates: tuple[GateResult, ...]) -> str | None:
    """Of a refusal by gates, which can be said again; what a stage or a person said is not kept."""
    if frozen is None or not gates or row.outcome != "Rejected":
        return None
    return decide(gates, frozen.spec.gates.on_inconclusive, needs_approval="").message


def iterations_uri(owner: Owner, spec: AlignmentCycleSpec) -> str:
    """The folder of all iterations, with the store that this spec names."""
    return names.iterations_prefix(names.cycle_prefix(spec.store.uri, owner.namespace, owner.name, owner.uid))


def report_config(
    owner: Owner,
    status: AlignmentCycleStatus,
    account: Account,
    store: AlignmentCycleSpec,
    approve: str,
    reject: str,
) -> ReportConfig:
    """What the worker draws. `store`: the spec that says where the artifacts are, should the frozen one be gone."""
    return ReportConfig(
        namespace=owner.namespace,
        cycle=owner.name,
        iterations=iterations_uri(owner, account.spec or store),
        iteration=account.iteration,
        spec=_settled(account.spec) if account.spec else None,
        explanation=account.explanation(approve, reject),
        history=status.history,
        unknown=list(account.unknown),
    )


def _settled(spec: AlignmentCycleSpec) -> AlignmentCycleSpec:
    """With the rates that the stage train was given, where the spec leaves them to the method."""
    rates = {"learning_rate": pipeline.learning_rate(spec), "beta": pipeline.beta(spec)}
    return spec.model_copy(update={"training": spec.training.model_copy(update=rates)})

"""What the page says of an iteration, from its status and the rows that its stages left. Pure: no file, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from markupsafe import Markup

from alignment_api import measurements as names
from alignment_api.cycle_status import StageStatus
from alignment_api.gates import Verdict
from alignment_api.iteration_report import ExplainedGate, Measured, ReportConfig
from alignment_api.measurements import Measurement
from alignment_api.numbers import number
from alignment_api.stage import WORK, Stage, StageResult
from alignment_worker.iteration_report import charts, figures, words
from alignment_worker.iteration_report.examples import ExampleGroup, example_groups
from alignment_worker.iteration_report.figures import Figure, Table
from alignment_worker.iteration_report.reading import Artifacts

_SYMBOLS = {Verdict.PASSED: "✓", Verdict.FAILED: "✗", Verdict.INCONCLUSIVE: "?", Verdict.ERROR: "!"}
_TONES = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "failed",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.ERROR: "failed",
}
_OUTCOMES = {"Promoted": "passed", "Rejected": "failed", "Failed": "failed", "RolledBack": "failed"}


@dataclass(frozen=True)
class Tile:
    """A number that is read first."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True)
class MeasuredRow:
    """A measurement in the gates' table."""

    label: str
    value: str
    interval: str
    size: str
    allowed: str
    drawing: Markup | None


@dataclass(frozen=True)
class GateView:
    """A gate in that table."""

    name: str
    verdict: str
    symbol: str
    tone: str
    message: str
    warnings: Sequence[str]
    note: str
    detectable: str
    settles: str
    rows: Sequence[MeasuredRow]


@dataclass(frozen=True)
class StageRow:
    """A stage in the table of what was done."""

    name: str
    state: str
    took: str
    work: str


@dataclass(frozen=True)
class Page:
    """Everything that the template fills in."""

    title: str
    cycle: str
    namespace: str
    number: int
    outcome: str
    tone: str
    reason: str
    sentence: str
    why: Sequence[str]
    next: Sequence[str]
    when: str
    tiles: Sequence[Tile]
    gates: Sequence[GateView]
    comparison: Sequence[Figure]
    lengths: Figure
    rewards: Figure
    judges: Table
    near: Table
    gold: Table
    trend: Sequence[Figure]
    curves: Sequence[Figure]
    examples: Sequence[ExampleGroup]
    stages: Sequence[StageRow]
    origins: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    unknown: Sequence[str] = field(default_factory=list)


def page_of(config: ReportConfig, artifacts: Artifacts) -> Page:
    iteration, explanation, spec = config.iteration, config.explanation, config.spec
    results = {entry.name: entry.result for entry in iteration.stages if entry.result}
    confidence = spec.evaluation.confidence_percent if spec else 95.0
    floor = spec.gates.win_rate.min_percent if spec and spec.gates.win_rate else 50.0
    evaluated, compared = (_overall(results, stage) for stage in (Stage.EVALUATE, Stage.COMPARE))
    known = {
        **artifacts.results,
        iteration.number: {**artifacts.results.get(iteration.number, {}), **results},
    }
    return Page(
        title=f"{config.cycle}, iteration {iteration.number}: {explanation.outcome}",
        cycle=config.cycle,
        namespace=config.namespace,
        number=iteration.number,
        outcome=explanation.outcome,
        tone=_OUTCOMES.get(explanation.outcome, "inconclusive"),
        reason=iteration.reason or "",
        sentence=explanation.sentence,
        why=explanation.why,
        next=explanation.next,
        when=_when(config),
        tiles=_tiles(evaluated, compared),
        gates=[_gate(gate) for gate in explanation.gates],
        comparison=[
            figures.win_rate(artifacts.comparisons, confidence, floor),
            figures.outcomes(artifacts.comparisons, artifacts.answers),
        ],
        lengths=figures.lengths(artifacts.answers),
        rewards=figures.rewards(artifacts.comparisons),
        judges=figures.judges(results),
        near=figures.near(artifacts.near),
        gold=figures.gold(results.get(Stage.EVALUATE), artifacts.gold, spec),
        trend=figures.trend(config, known),
        curves=figures.curves(artifacts.training),
        examples=example_groups(artifacts),
        stages=[_stage(entry) for entry in iteration.stages],
        origins=_origins(config),
        settings=_settings(config),
        unknown=config.unknown,
    )


def _overall(results: Mapping[Stage, StageResult], stage: Stage) -> Mapping[str, Measurement]:
    return results[stage].measurements if stage in results else {}


def _when(config: ReportConfig) -> str:
    iteration = config.iteration
    ended = iteration.finished_at
    if ended is None:
        return f"begun {_spelled(iteration.started_at)}"
    began = datetime.fromisoformat(iteration.started_at)
    took = (datetime.fromisoformat(ended) - began).total_seconds()
    return f"{_spelled(iteration.started_at)}, took {words.seconds(took)}"


def _spelled(instant: str) -> str:
    return f"{datetime.fromisoformat(instant):%d %B %Y, %H:%M} UTC".lstrip("0")


_TILES = (
    (names.WIN_RATE, "win rate", "%", 1, False, "comparisons"),
    (names.GOLD_POOLED, "gold set", "points", 1, True, "items"),
    (names.LENGTH_RATIO, "length ratio", "×", 2, False, "prompts"),
    (names.REWARD_WIN_RATE, "win rate, training judge", "%", 1, False, "comparisons"),
    (names.DIVERGENCE, "divergence", "nats a token", 3, False, "answers"),
)


def _tiles(evaluated: Mapping[str, Measurement], compared: Mapping[str, Measurement]) -> list[Tile]:
    """Of what was measured, the first four."""
    found = {**evaluated, **compared}
    tiles = []
    for name, label, unit, digits, signed, things in _TILES:
        value = found.get(name)
        if value is not None and value.estimate is not None:
            told = f"{number(value.estimate, digits, signed=signed)} {unit}"
            detail = f"{words.interval(value, digits)} of {words.count(value.n)} {things}".strip()
            tiles.append(Tile(label, told, detail))
    return tiles[:4]


def _gate(gate: ExplainedGate) -> GateView:
    tone = _TONES[gate.verdict]
    return GateView(
        name=gate.name.value,
        verdict=gate.verdict.value,
        symbol=_SYMBOLS[gate.verdict],
        tone=tone,
        message=gate.message,
        warnings=gate.warnings,
        note=gate.note,
        detectable=gate.detectable,
        settles="" if gate.verdict is Verdict.FAILED else gate.settles,
        rows=[_measured(measured, tone) for measured in gate.measured],
    )


def _measured(measured: Measured, tone: str) -> MeasuredRow:
    value = measured.measurement
    told, interval, allowed = measured.estimate(), measured.interval(), measured.allowed()
    drawing = None
    if value.estimate is not None:
        limits = f"; allowed: {allowed}" if allowed else ""
        drawing = charts.strip(
            charts.Strip(value.estimate, value.low, value.high, measured.even, measured.least, measured.most),
            f"{measured.label}: {told} {interval}{limits}",
            _side(measured, tone),
        )
    return MeasuredRow(measured.label, told, interval, words.count(value.n), allowed, drawing)


def _side(measured: Measured, tone: str) -> str:
    """Its own: inside what is allowed, outside, or over the limit; the gate's where nothing is forbidden."""
    least, most, value = measured.least, measured.most, measured.measurement
    if (least is None and most is None) or value.estimate is None:
        return "plain"
    inside = (least is None or value.estimate >= least) and (most is None or value.estimate <= most)
    if not inside:
        return "failed" if tone == "failed" else "inconclusive"
    if value.low is None and value.high is None:
        return "passed"
    low_inside = least is None or (value.low is not None and value.low >= least)
    high_inside = most is None or (value.high is not None and value.high <= most)
    return "passed" if low_inside and high_inside else "inconclusive"


def _stage(entry: StageStatus) -> StageRow:
    took = ""
    if entry.started_at and entry.finished_at:
        began, ended = (datetime.fromisoformat(instant) for instant in (entry.started_at, entry.finished_at))
        took = words.seconds((ended - began).total_seconds())
    if entry.result is None:
        work = ": ".join(part for part in (entry.reason, entry.message) if part)
    else:
        counts = entry.result.counts
        ordered = sorted(counts, key=lambda name: name != WORK[entry.name])
        work = ", ".join(
            f"{words.count(counts[name])} {words.words(name)}" for name in ordered if counts[name]
        )
    return StageRow(entry.name.value, entry.state, took, work)


def _origins(config: ReportConfig) -> list[tuple[str, str]]:
    """What it is about, by digest: whoever doubts the page can look for these very bytes."""
    iteration = config.iteration
    told = [
        (role, f"{located.uri} {located.digest}")
        for role, located in (("incumbent", iteration.incumbent), ("candidate", iteration.candidate))
        if located
    ]
    told += [(role, digest) for role, digest in iteration.inputs.items()]
    told += [
        (f"dataset {each.name}", f"revision {each.revision} {each.digest}") for each in iteration.datasets
    ]
    if iteration.evidence_digest:
        told.append(("evidence", iteration.evidence_digest))
    if iteration.revision:
        told.append(
            ("frozen spec", f"ControllerRevision {iteration.revision}, generation {iteration.generation}")
        )
    return told


def _settings(config: ReportConfig) -> list[tuple[str, str]]:
    """Of the frozen spec, what a reader of the numbers wants to know."""
    spec = config.spec
    if spec is None:
        return []
    training = spec.training
    told = [
        ("method", training.method),
        ("reference", spec.policy.reference),
        ("epochs", f"{training.epochs:g}"),
    ]
    trained = next((entry for entry in config.iteration.stages if entry.name is Stage.TRAIN), None)
    rates = (("learning rate", training.learning_rate), ("beta", training.beta))
    told += [(label, f"{value:g}") for label, value in rates if value is not None]
    told.append(("LoRA", f"rank {training.lora.rank}" if training.lora else "no, all weights"))
    if spec.judge:
        told.append(("training judge", _judge(spec.judge)))
    comparison = spec.evaluation.comparison
    if comparison:
        told.append(
            ("comparison judge", _judge(comparison.judge) if comparison.judge else "the training judge")
        )
    told.append(("confidence", f"{spec.evaluation.confidence_percent:g} %"))
    if trained and trained.attempt:
        told.append(("attempts of train", str(trained.attempt + 1)))
    return told


def _judge(judge: object) -> str:
    reward_model, llm = getattr(judge, "reward_model", None), getattr(judge, "llm", None)
    if llm is not None:
        return f"LLM {llm.model} at {llm.base_url}"
    if reward_model is not None:
        return f"reward model {reward_model.uri or 'that the stage reward trained'}"
    return "verifier"

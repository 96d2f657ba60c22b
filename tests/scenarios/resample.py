"""Other sets of measurements that a trial might have had, and what the gates say of them.

Gold items and held-out prompts are drawn with replacement within their categories, and compared in another order. The
measurements are those of the stages' own functions, the verdicts those of the gates. Of an equal model, a coin says for
each prompt which of its two independent answers is the candidate's, so that there is nothing to find.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from alignment_api.cycle import AlignmentCycleSpec
from alignment_api.judges import ComparisonJudge
from alignment_api.measurements import Measurement
from alignment_api.stage import CompareParameters, Located, Stage, StageConfig, StageResult
from alignment_operator.gates.decision import DecisionKind, decide
from alignment_operator.gates.verdicts import judge_all
from alignment_worker import compare, rows
from alignment_worker.answers import Answers, Questions
from alignment_worker.artifacts import ANSWERS, GOLD_ANSWERS
from alignment_worker.contests import SIDES, ByScore, Contest
from alignment_worker.evaluate import Measured
from alignment_worker.generate import Completion
from alignment_worker.progress import Progress
from alignment_worker.rows import Row
from alignment_worker.scoring import RewardModel, Scorer, Verifier
from alignment_worker.statistics.comparison_order import comparison_order
from tests.scenarios.scenarios import HELD, PROMOTED, REFUSED
from tests.scenarios.table import Ended
from tests.scenarios.trial import Trial

_OUTCOMES = {
    DecisionKind.PROMOTE: PROMOTED,
    DecisionKind.HOLD: HELD,
    DecisionKind.REJECT: REFUSED,
}


@dataclass(frozen=True)
class Face:
    """Two answers to one held-out prompt: the row that `compare` would read, and what the judges make of it."""

    row: dict[str, Any]
    contest: Contest
    reward: Contest | None


@dataclass(frozen=True)
class Material:
    """What a trial measured, item by item. `faces[i]`: the pairs of answers that prompt i may be compared by."""

    trial: Trial
    gold: Sequence[dict[str, Any]]
    faces: Sequence[Sequence[Face]]


def measured(trial: Trial) -> bool:
    """Whether it came to the gates with all that they look at."""
    return {"evaluate", "compare"} <= _results(trial).keys()


def material(trial: Trial) -> Material:
    """Of a trial that was measured."""
    answered = rows.load(_file(trial, "evaluate", ANSWERS))
    faced = [[row, _turned(row)] if trial.scenario.equal else [row] for row in answered]
    return Material(trial, rows.load(_file(trial, "evaluate", GOLD_ANSWERS)), _judged(trial, faced))


def resampled(of: Material, count: int, seed: int, without: Sequence[str] = ()) -> Iterator[Ended]:
    """`count` outcomes, the same for the same seed. `without`: gates of the spec that are not asked.

    Raises AssertionError if a gate cannot judge a set.
    """
    config = _config(of.trial, "compare")
    evaluated = _config(of.trial, "evaluate")
    wire = of.trial.cycle["spec"]
    gates = {name: limits for name, limits in wire["gates"].items() if name not in without}
    spec = AlignmentCycleSpec.from_wire(wire | {"gates": gates})
    candidate = Located.from_wire(of.trial.iteration["candidate"])
    results = {Stage(name): StageResult.from_wire(value) for name, value in _results(of.trial).items()}
    for number in range(count):
        draw = random.Random(f"{seed}/{number}")
        gold = [of.gold[index] for index in _redrawn(of.gold, draw)]
        chosen = _redrawn([faces[0].row for faces in of.faces], draw)
        faces = [draw.choice(of.faces[index]) for index in chosen]
        once = [draw.choice(of.faces[index]) for index in sorted(set(chosen))]
        ask = partial(_measured, evaluated, gold, number)
        drawn, distinct = ask(faces), ask(once)
        compared = _compared(config, faces, number)
        again = {
            Stage.EVALUATE: results[Stage.EVALUATE].model_copy(
                update={
                    "measurements": results[Stage.EVALUATE].measurements
                    | drawn.overall()
                    | distinct.collapse(),
                    "by_category": drawn.by_category(),
                }
            ),
            Stage.COMPARE: results[Stage.COMPARE].model_copy(update={"measurements": compared}),
        }
        verdicts = judge_all(spec, {**results, **again}, of.trial.iteration["inputs"], candidate)
        decision = decide(verdicts, spec.gates.on_inconclusive, "")
        # Not even refused: the battery would be blind to what its gates cannot judge.
        assert decision.kind is not DecisionKind.FAIL, decision.message
        yield Ended(_OUTCOMES[decision.kind], str(decision.reason))


def _results(trial: Trial) -> dict[str, Any]:
    return {stage["name"]: stage["result"] for stage in trial.iteration["stages"] if "result" in stage}


def _file(trial: Trial, stage: str, name: str) -> Any:
    folder = trial.local(_results(trial)[stage]["manifest"]["uri"])
    found = [*folder.glob(name), *folder.glob(f"run-*/{name}")]
    return found[0]


def _config(trial: Trial, stage: str) -> StageConfig:
    (file,) = (trial.folder / "state" / "jobs").glob(f"*-{stage}-*/stage.json")
    return StageConfig.from_wire(json.loads(file.read_text()))


def _turned(row: dict[str, Any]) -> dict[str, Any]:
    """Two answers of one model, in the other roles."""
    return {**row, **dict(zip(SIDES, (row[side] for side in reversed(SIDES)), strict=True))}


def _judged(trial: Trial, faced: Sequence[Sequence[dict[str, Any]]]) -> list[list[Face]]:
    """By the judges of the spec."""
    parameters = _config(trial, "compare").parameters
    assert isinstance(parameters, CompareParameters)
    flat = [row for some in faced for row in some]
    comparing = parameters.comparison.judge or parameters.judge
    assert comparing is not None
    contests = _contests(trial, comparing, flat)
    rewards: Sequence[Contest | None] = [None] * len(flat)
    if parameters.judge is not None:
        rewards = (
            contests if parameters.comparison.judge is None else _contests(trial, parameters.judge, flat)
        )
    faces = iter([Face(*each) for each in zip(flat, contests, rewards, strict=True)])
    return [[next(faces) for _ in some] for some in faced]


def _contests(trial: Trial, judge: ComparisonJudge, some: Sequence[dict[str, Any]]) -> list[Contest]:
    if judge.llm is not None:
        script = trial.scenario.script
        assert script is not None
        shares = [script.share(row["prompt"], *(row[side]["text"] for side in SIDES)) for row in some]
        return [Contest(share, 1 - share, share) for share in shares]
    scorer: Scorer = Verifier()
    if judge.reward_model is not None:
        uri = judge.reward_model.uri
        assert uri is not None
        scorer = RewardModel("judge", trial.local(uri), judge.reward_model.batch_size)
    return ByScore(scorer, Progress()).contests(some)


def _redrawn(some: Sequence[Mapping[str, Any]], draw: random.Random) -> list[int]:
    """Indices, as many of each category as there are."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(some):
        groups.setdefault(row.get("category", ""), []).append(index)
    return [index for group in groups.values() for index in draw.choices(group, k=len(group))]


def _measured(
    config: StageConfig, gold: Sequence[dict[str, Any]], seed: int, faces: Sequence[Face]
) -> Measured:
    held_out = [face.row for face in faces]
    questions = Questions(
        gold=[_row(row) for row in gold],
        held_out=[_row(row) for row in held_out],
        gold_file=None,  # type: ignore[arg-type] # nothing is asked
        held_out_file=None,  # type: ignore[arg-type]
        others=(),
        parameters=config.parameters,  # type: ignore[arg-type]
        python=False,
        seed=seed,
    )
    said = {side: _answers(gold, held_out, side) for side in SIDES}
    return Measured(questions, said, config.parameters.confidence_percent / 100)  # type: ignore[union-attr]


def _row(row: Mapping[str, Any]) -> Row:
    return Row(row["line"], row["prompt"], row.get("answer"), row.get("grader"), row.get("category"))


def _answers(gold: Sequence[dict[str, Any]], held_out: Sequence[dict[str, Any]], side: str) -> Answers:
    said = [row[side] for row in held_out]
    return Answers(
        gold_texts=[row[side]["texts"] for row in gold],
        gold_right=[row[side]["right"] for row in gold],
        held_out=[Completion(one["ids"], [], [one["entropy"]], one["truncated"]) for one in said],
        held_out_texts=[one["text"] for one in said],
        dependence=[one["dependence"] for one in said],
    )


def _compared(config: StageConfig, faces: Sequence[Face], seed: int) -> dict[str, Measurement]:
    """As the stage compare does, in an order of its own."""
    parameters = config.parameters
    assert isinstance(parameters, CompareParameters)
    order = comparison_order([face.row.get("category", "") for face in faces], seed)
    ordered = [faces[index] for index in order]
    answers, contests = [face.row for face in ordered], [face.contest for face in ordered]
    result = compare.head_to_head_of(parameters, answers, contests)
    used = result.used
    rewards = [face.reward for face in ordered[:used] if face.reward is not None]
    return compare.measured(parameters, answers, answers[:used], result, contests[:used], rewards or None)

"""The stage `evaluate`: gold answers and held-out answers of candidate and incumbent (and M_0), measured.

Makes gold.jsonl (a row for each item: its columns, `line`, and by checkpoint the answers and whether they are right)
and answers.jsonl (a row for each held-out prompt: its columns, `line`, and by checkpoint `ids`, `text`, `truncated`,
`entropy` and `dependence`, in nats).
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, TypeVar

from alignment_api import measurements as names
from alignment_api.measurements import Measurement
from alignment_api.stage import EvaluateParameters, InputKind, Located
from alignment_worker import divergence, gold_reuse, models, rows
from alignment_worker.answers import Answers, Questions, answer, drawn, held_out_ids, others
from alignment_worker.artifacts import ANSWERS, GOLD_ANSWERS
from alignment_worker.failures import NoWorkDoneError
from alignment_worker.rows import Row
from alignment_worker.statistics.diversity import distinct2_drop, identical_change
from alignment_worker.statistics.mean_change import mean, mean_change
from alignment_worker.statistics.paired_accuracy import paired_accuracy
from alignment_worker.statistics.proportions import percent
from alignment_worker.statistics.ratios import length_ratio, per_token, share_change
from alignment_worker.store import Outcome
from alignment_worker.workspace import Workspace

_CHECKPOINTS = {"candidate": "candidate", "policy": "incumbent", "initial": "initial"}

Value = TypeVar("Value")


def run(workspace: Workspace) -> Outcome:
    """Raises WorkerError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, EvaluateParameters)
    gold_file, held_out_file = (workspace.inputs.path(role) for role in ("goldSet", "heldOutPrompts"))
    held_out = rows.read(held_out_file, workspace.inputs.kinds["heldOutPrompts"])
    questions = Questions(
        gold=rows.read(gold_file, InputKind.GOLD_SET),
        held_out=held_out,
        gold_file=gold_file,
        held_out_file=held_out_file,
        others=others(held_out, workspace.config.seed),
        parameters=parameters,
        python=workspace.config.python_grader is not None,
        seed=workspace.config.seed,
        of_itself=workspace.inputs.digests["candidate"] == workspace.inputs.digests["policy"],
    )
    keys = _keys(workspace, parameters)
    said, reused = _ask(workspace, questions, keys)
    diverged = _diverged(workspace, questions, said["candidate"])
    rows.write(workspace.run_folder / GOLD_ANSWERS, _gold_rows(questions.gold, said))
    gold_reuse.store({name: keys[name] for name in said}, workspace.run_folder)
    rows.write(workspace.run_folder / ANSWERS, _answer_rows(held_out, said))
    given = sum(len(answers.held_out) + sum(map(len, answers.gold_right)) for answers in said.values())
    if not given:
        raise NoWorkDoneError("no answer was given")
    measured = Measured(questions, said, parameters.confidence_percent / 100)
    return Outcome(
        counts={
            "answers": given,
            "goldItems": len(questions.gold),
            "goldReused": reused,
            "heldOutPrompts": len(held_out),
            "tokens": sum(len(one.ids) for answers in said.values() for one in answers.held_out),
        },
        measurements=measured.overall() | diverged,
        by_category=measured.by_category(),
        model=Located(
            uri=workspace.config.inputs["candidate"].uri, digest=workspace.inputs.digests["candidate"]
        ),
    )


def _keys(workspace: Workspace, parameters: EvaluateParameters) -> dict[str, str]:
    """Of the gold answers, by checkpoint."""
    found = workspace.inputs.digests
    return {
        name: gold_reuse.key(found[role], found["goldSet"], parameters.gold_set)
        for role, name in _CHECKPOINTS.items()
        if role in workspace.inputs
    }


def _ask(
    workspace: Workspace, questions: Questions, keys: Mapping[str, str]
) -> tuple[dict[str, Answers], int]:
    """By `candidate`, `incumbent`, `initial`, and how many gold items were known.

    M_0 is not asked again where it is the incumbent.
    """
    inputs = workspace.inputs
    asked = [role for role in _CHECKPOINTS if role in inputs]
    repeated = "initial" in asked and inputs.digests["initial"] == inputs.digests["policy"]
    if repeated:
        asked.remove("initial")
    said, reused = {}, 0
    for role in asked:
        name = _CHECKPOINTS[role]
        known = gold_reuse.known(workspace, keys[name])
        prompts = len(questions.held_out) + (len(questions.gold) if known is None else 0)
        workspace.progress.begin(prompts, "prompts", f"{name} answers")
        said[name] = answer(role, inputs.path(role), questions, known, workspace.progress)
        reused += 0 if known is None else len(known)
        gc.collect()  # one checkpoint in memory at a time
    if repeated:
        said["initial"] = said["incumbent"]
    return said, reused


def _diverged(workspace: Workspace, questions: Questions, candidate: Answers) -> dict[str, Measurement]:
    """From each model that is asked for, both in memory: on the held-out answers, drawn anew where they were not drawn
    from the model's own distribution.
    """
    parameters = questions.parameters
    if not parameters.divergence:
        return {}
    inputs, progress = workspace.inputs, workspace.progress
    policy = models.load_policy("candidate", inputs.path("candidate"))
    asked = held_out_ids(policy, questions)
    own = candidate.held_out
    if (parameters.temperature, parameters.top_p) != (1, 1):
        progress.begin(len(asked), "prompts", "candidate answers at temperature 1")
        own = drawn(policy, asked, questions, "candidate", temperature=1.0, top_p=1.0, progress=progress)
    said = [completion.ids for completion in own]
    found = {}
    for role in parameters.divergence:
        progress.begin(len(asked), "prompts", f"divergence from {_CHECKPOINTS[role]}")
        other = models.load_policy(role, inputs.path(role))
        nats = divergence.nats(policy, other, asked, said, progress)
        name = {"policy": names.DIVERGENCE, "initial": names.DIVERGENCE_FROM_INITIAL}[role]
        found[name] = per_token(nats, [*map(len, said)], parameters.confidence_percent / 100, questions.seed)
        del other
        gc.collect()
    return found


class Measured:
    """The measurements, by the names that the gates know."""

    def __init__(self, questions: Questions, said: Mapping[str, Answers], confidence: float) -> None:
        self._questions = questions
        self._candidate, self._incumbent = said["candidate"], said["incumbent"]
        self._initial = said.get("initial")
        self._confidence = confidence
        self._seed = questions.seed

    def overall(self) -> dict[str, Measurement]:
        every = range(len(self._questions.held_out))
        found = self._gold_pooled() | self._lengths() | self._ratios(every) | self.collapse()
        if self._initial is not None:
            found[names.DISTINCT2_DROP_FROM_INITIAL] = distinct2_drop(
                _ids(self._candidate), _ids(self._initial), self._confidence
            )
            found[names.PROMPT_DEPENDENCE_CHANGE_FROM_INITIAL] = mean_change(
                self._candidate.dependence, self._initial.dependence, self._confidence, self._seed
            )
        return found

    def by_category(self) -> dict[str, dict[str, Measurement]]:
        found: dict[str, dict[str, Measurement]] = {}
        for category, items in _groups(self._questions.gold).items():
            found.setdefault(category, {}).update(self._gold(items))
        for category, items in _groups(self._questions.held_out).items():
            found.setdefault(category, {}).update(self._ratios(items))
        return found

    def _gold_pooled(self) -> dict[str, Measurement]:
        return {names.GOLD_POOLED: self._change(self._incumbent, range(len(self._questions.gold)))}

    def _gold(self, items: Sequence[int]) -> dict[str, Measurement]:
        right = _at(self._candidate.gold_right, items)
        accuracy = (
            percent(sum(flag for (flag,) in right), len(right), self._confidence)
            if len(right[0]) == 1
            else mean([100 * sum(flags) / len(flags) for flags in right], self._confidence)
        )
        found = {names.GOLD: self._change(self._incumbent, items), names.GOLD_ACCURACY: accuracy}
        if self._initial is not None:
            found[names.GOLD_FROM_INITIAL] = self._change(self._initial, items)
        return found

    def _change(self, before: Answers, items: Sequence[int]) -> Measurement:
        return paired_accuracy(
            _at(before.gold_right, items),
            _at(self._candidate.gold_right, items),
            self._confidence,
            self._seed,
        )

    def _ratios(self, items: Sequence[int]) -> dict[str, Measurement]:
        lengths = _at(_tokens(self._candidate), items)

        def ratio(before: Answers) -> Measurement:
            return length_ratio(lengths, _at(_tokens(before), items), self._confidence, self._seed)

        found = {names.LENGTH_RATIO: ratio(self._incumbent)}
        if self._initial is not None:
            found[names.LENGTH_RATIO_FROM_INITIAL] = ratio(self._initial)
        return found

    def _lengths(self) -> dict[str, Measurement]:
        cut, cut_before = _truncated(self._candidate), _truncated(self._incumbent)
        return {
            names.TRUNCATED_SHARE: percent(sum(cut), len(cut), self._confidence),
            names.TRUNCATED_CHANGE: share_change(cut, cut_before, self._confidence),
            names.CANDIDATE_TOKENS: mean(_tokens(self._candidate), self._confidence),
            names.INCUMBENT_TOKENS: mean(_tokens(self._incumbent), self._confidence),
            names.CANDIDATE_ENTROPY: mean(_entropies(self._candidate), self._confidence),
            names.INCUMBENT_ENTROPY: mean(_entropies(self._incumbent), self._confidence),
        }

    def collapse(self) -> dict[str, Measurement]:
        after, before = _ids(self._candidate), _ids(self._incumbent)
        return {
            names.DISTINCT2_DROP: distinct2_drop(after, before, self._confidence),
            names.IDENTICAL_CHANGE: identical_change(after, before, self._confidence),
            names.PROMPT_DEPENDENCE_CHANGE: mean_change(
                self._candidate.dependence, self._incumbent.dependence, self._confidence, self._seed
            ),
        }


def _groups(some: Sequence[Row]) -> dict[str, list[int]]:
    """Indices by category, those without one left out."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(some):
        if row.category is not None:
            groups.setdefault(row.category, []).append(index)
    return groups


def _at(values: Sequence[Value], items: Sequence[int]) -> list[Value]:
    return [values[index] for index in items]


def _ids(answers: Answers) -> list[list[int]]:
    return [completion.ids for completion in answers.held_out]


def _tokens(answers: Answers) -> list[int]:
    return [len(completion.ids) for completion in answers.held_out]


def _truncated(answers: Answers) -> list[bool]:
    return [completion.truncated for completion in answers.held_out]


def _entropies(answers: Answers) -> list[float]:
    """Nats a token, the mean of each answer."""
    return [fmean(completion.entropies) for completion in answers.held_out]


def _gold_rows(gold: Sequence[Row], said: Mapping[str, Answers]) -> list[dict[str, Any]]:
    return [
        rows.to_wire(row)
        | {"line": row.number}
        | {
            name: {"texts": answers.gold_texts[index], "right": answers.gold_right[index]}
            for name, answers in said.items()
        }
        for index, row in enumerate(gold)
    ]


def _answer_rows(held_out: Sequence[Row], said: Mapping[str, Answers]) -> list[dict[str, Any]]:
    entropies = {name: _entropies(answers) for name, answers in said.items()}

    def of(name: str, index: int) -> dict[str, Any]:
        answers = said[name]
        completion = answers.held_out[index]
        return {
            "ids": completion.ids,
            "text": answers.held_out_texts[index],
            "truncated": completion.truncated,
            "entropy": entropies[name][index],
            "dependence": answers.dependence[index] if answers.dependence else None,
        }

    return [
        rows.to_wire(row) | {"line": row.number} | {name: of(name, index) for name in said}
        for index, row in enumerate(held_out)
    ]

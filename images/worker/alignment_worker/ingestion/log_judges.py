"""What judges of inference logs say of two answers: a reward model, an LLM, or a verifier of known answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from alignment_api.measurements import ORDER_AGREEMENT, Measurement
from alignment_api.sources import LogJudge, token_variable
from alignment_api.stage import IngestParameters, InputKind
from alignment_worker import graders, rows, unseen
from alignment_worker.failures import InvalidRowError
from alignment_worker.llm_judge import LLMJudge, Seat
from alignment_worker.rows import Pair
from alignment_worker.scoring import Question, RewardModel, Verifier
from alignment_worker.statistics import reward_quality
from alignment_worker.workspace import Workspace

_PAIRS_AT_ONCE = 1024
Done = Callable[[], None]


class Judge(Protocol):
    """Of one log. `limit`: percent of people's pairs that its agreement must be shown to exceed; None: none."""

    what: str
    remedy: str
    limit: float | None

    def leads(self, pairs: Sequence[Pair], done: Done) -> list[float | None]:
        """What the chosen answer leads by: below 0 the judge prefers the other, 0 is a tie. None: it was not asked.

        `done` is called after each that was. Raises WorkerError, OSError.
        """
        ...

    def agreement(self, leads: Sequence[float], confidence: float) -> Measurement:
        """Percent of pairs in which it prefers what people chose."""
        ...

    def measurements(self, confidence: float) -> dict[str, Measurement]:
        """What its own judgements say of it."""
        ...

    def counts(self) -> dict[str, int]:
        """Of everything that it was asked."""
        ...

    def finish(self) -> None:
        """Nothing more is asked in this refresh. Raises StoreError, OSError."""
        ...


def judge_of(workspace: Workspace, index: int, name: str, judge: LogJudge) -> Judge:
    """Of the source of that number and name. Raises InvalidModelError, InvalidConfigError, InvalidRowError."""
    field = f"spec.sources[{index}].inferenceLog.judge"
    if judge.reward_model is not None:
        return ByScore(workspace, field, f"judge/{name}", judge.reward_model.batch_size)
    if judge.verifier is not None:
        return ByRule(workspace, f"verifier/{name}")
    return ByComparison(workspace, field, index, name, judge)


class _OnThisMachine:
    """A judge that costs nothing to ask, and whose judgements say nothing of it."""

    _judgements = 0

    def measurements(self, confidence: float) -> dict[str, Measurement]:
        return {}

    def counts(self) -> dict[str, int]:
        return {"judgements": self._judgements}

    def finish(self) -> None:
        pass


class ByScore(_OnThisMachine):
    """A reward model. What it cannot read it is not asked about."""

    limit: float | None = unseen.LIMIT_PERCENT

    def __init__(self, workspace: Workspace, field: str, role: str, batch_size: int) -> None:
        self.what = f"The reward model {workspace.config.inputs[role].uri}"
        self.remedy = f"Name another in {field}.rewardModel.uri, or train a new one on newer pairs."
        self._judge = RewardModel(role, workspace.inputs.path(role), batch_size)

    def leads(self, pairs: Sequence[Pair], done: Done) -> list[float | None]:
        found: list[float | None] = []
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            asked = [unseen.questions(pair, "") for pair in pairs[start : start + _PAIRS_AT_ONCE]]
            read = [both for both in asked if all(map(self._judge.reads, both))]
            margins = iter(unseen.margins(self._judge, read))
            there = set(map(id, read))
            found.extend(next(margins) if id(both) in there else None for both in asked)
            self._judgements += 2 * len(read)
            for _ in read:
                done()
        return found

    def agreement(self, leads: Sequence[float], confidence: float) -> Measurement:
        return reward_quality.accuracy(leads, confidence)


class ByRule(_OnThisMachine):
    """A verifier. It is asked where the prompt is one whose right answer is known, and right beats wrong."""

    what = remedy = ""
    limit: float | None = None

    def __init__(self, workspace: Workspace, role: str) -> None:
        file = workspace.inputs.path(role)
        self._known: dict[str, tuple[str, str]] = {}
        for row in rows.read(file, InputKind.CHECKABLE_PROMPTS):
            if row.grader == graders.PYTHON:
                raise InvalidRowError(
                    f"{file}: {rows.where(file)} {row.number}: `grader` is Python, and a refresh runs no code that a "
                    "model wrote; take the row out"
                )
            assert row.answer is not None
            assert row.grader is not None
            self._known[rows.normalised(row.prompt)] = (row.answer, row.grader)

    def leads(self, pairs: Sequence[Pair], done: Done) -> list[float | None]:
        known = [self._known.get(rows.normalised(pair.prompt)) for pair in pairs]
        asked = [
            Question(question.where, question.prompt, question.text, *each)
            for pair, each in zip(pairs, known, strict=True)
            if each is not None
            for question in unseen.questions(pair, "")
        ]
        scores = iter(Verifier().scores(asked))
        self._judgements += len(asked)
        found: list[float | None] = []
        for each in known:
            found.append(None if each is None else next(scores) - next(scores))
            if each is not None:
                done()
        return found

    def agreement(self, leads: Sequence[float], confidence: float) -> Measurement:
        """Of those of which one answer is right and one wrong."""
        return reward_quality.accuracy([lead for lead in leads if lead], confidence)


class ByComparison:
    """An LLM, in both orders, within its budget; what that leaves over it is not asked about."""

    limit: float | None = unseen.CHANCE_PERCENT

    def __init__(self, workspace: Workspace, field: str, index: int, name: str, judge: LogJudge) -> None:
        parameters = workspace.config.parameters
        assert isinstance(parameters, IngestParameters)
        assert parameters.judgements is not None
        assert judge.llm is not None
        self.what = f"The LLM of {field}"
        self.remedy = f"Name another model in {field}.llm, or change the rubric."
        seat = Seat(
            f"{field}.llm",
            token_variable(index),
            workspace.places.path(parameters.judgements) / f"{name}.jsonl",
            buyer=workspace.config.output.rpartition("/")[2],
        )
        self._judge = LLMJudge(judge.llm, seat, workspace.progress)

    def leads(self, pairs: Sequence[Pair], done: Done) -> list[float | None]:
        matchups = [unseen.matchup(*unseen.questions(pair, "")) for pair in pairs]
        shares = self._judge.affordable(matchups, done)
        return [None if share is None else share - 0.5 for share in shares]

    def agreement(self, leads: Sequence[float], confidence: float) -> Measurement:
        return unseen.agreement(leads, confidence)

    def measurements(self, confidence: float) -> dict[str, Measurement]:
        agreed = self._judge.measurements(confidence)[ORDER_AGREEMENT]
        return {ORDER_AGREEMENT: agreed} if agreed.n else {}

    def counts(self) -> dict[str, int]:
        return self._judge.counts()

    def finish(self) -> None:
        self._judge.forget_others()

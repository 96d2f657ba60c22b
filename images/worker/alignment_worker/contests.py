"""Head-to-head: what a judge says of the candidate's and the incumbent's answer to one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from alignment_api.judges import ComparisonJudge
from alignment_worker.llm_judge import LLMJudge, Matchup, seat
from alignment_worker.progress import Progress
from alignment_worker.scoring import Question, Scorer, scorer
from alignment_worker.store import Outcome
from alignment_worker.workspace import Workspace

SIDES = ("candidate", "incumbent")


@dataclass(frozen=True)
class Contest:
    """One comparison: what the judge gave each side, and the candidate's share of the win, from 0 to 1."""

    candidate: float
    incumbent: float
    won: float


class Referee(Protocol):
    """Rows are those of `evaluate`: `prompt`, and for each side `ids` and `text`."""

    def contests(self, some: Sequence[dict[str, Any]]) -> list[Contest]:
        """Raises what the judge raises."""
        ...

    def said(self, confidence: float) -> Outcome:
        """Counts and measurements of the judge itself, over all contests so far."""
        ...

    @property
    def judge(self) -> Scorer | LLMJudge:
        """Who judges."""
        ...


def referee(workspace: Workspace, judge: ComparisonJudge, role: str) -> Referee:
    """`role` names the input with the reward model, or the LLM's key. Raises InvalidModelError, InvalidConfigError."""
    if judge.llm is not None:
        return ByComparison(
            LLMJudge(judge.llm, seat(workspace, role), workspace.progress), workspace.progress
        )
    return ByScore(scorer(workspace, judge, role), workspace.progress)


class ByScore:
    """A judge that scores one answer at a time has no order to be swayed by: a win is 1, a tie ½."""

    def __init__(self, judge: Scorer, progress: Progress) -> None:
        self.judge = judge
        self._progress = progress
        self._judgements = 0

    def contests(self, some: Sequence[dict[str, Any]]) -> list[Contest]:
        questions = [_question(row, row[side]["text"]) for row in some for side in SIDES]
        scores = self.judge.scores(questions)
        self._judgements += len(questions)
        self._progress.count("judgements", len(questions))
        return [_by_score(*scores[place : place + 2]) for place in range(0, len(scores), 2)]

    def said(self, confidence: float) -> Outcome:
        return Outcome({"judgements": self._judgements})


class ByComparison:
    """An LLM, in both orders: the candidate's share is 0, ¼, ½, ¾ or 1."""

    def __init__(self, judge: LLMJudge, progress: Progress) -> None:
        self.judge = judge
        self._progress = progress

    def contests(self, some: Sequence[dict[str, Any]]) -> list[Contest]:
        shares = self.judge.shares([_matchup(row) for row in some], self._progress.advance)
        return [Contest(share, 1 - share, share) for share in shares]

    def said(self, confidence: float) -> Outcome:
        judge = self.judge
        return Outcome(judge.counts(), judge.measurements(confidence), judge.by_category(confidence))


def _by_score(candidate: float, incumbent: float) -> Contest:
    won = 0.5 if candidate == incumbent else float(candidate > incumbent)
    return Contest(candidate, incumbent, won)


def _question(row: dict[str, Any], text: str) -> Question:
    where = f"held-out prompts: line {row['line']}"
    return Question(where, row["prompt"], text, row.get("answer"), row.get("grader"))


def _matchup(row: dict[str, Any]) -> Matchup:
    candidate, incumbent = (row[side] for side in SIDES)
    tokens = len(candidate["ids"]), len(incumbent["ids"])
    return Matchup(row["prompt"], candidate["text"], incumbent["text"], *tokens, row.get("category"))

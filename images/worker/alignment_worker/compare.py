"""The stage `compare`: head-to-head of candidate and incumbent on the held-out answers that `evaluate` kept.

Makes comparisons.jsonl, a row for each comparison in the order that was fixed beforehand: `line`, `candidate` and
`incumbent` (what the comparison judge gave them), `won` (the candidate's share, from 0 to 1), the same with the
training judge under `reward`, and `longer`, whether the candidate's answer is over a fifth longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any

from alignment_api import measurements as names
from alignment_api.judges import reads_answers
from alignment_api.measurements import Measurement
from alignment_api.stage import CompareParameters, Located
from alignment_worker import judge_categories, rows, unseen
from alignment_worker.artifacts import ANSWERS, COMPARISONS
from alignment_worker.contests import SIDES, Contest, Referee, referee
from alignment_worker.failures import InvalidConfigError, NoWorkDoneError
from alignment_worker.statistics import length_controlled
from alignment_worker.statistics.betting import HeadToHead, WinRate, head_to_head
from alignment_worker.statistics.comparison_order import comparison_order
from alignment_worker.statistics.phrases import new_phrase
from alignment_worker.store import Outcome, SealedFolder
from alignment_worker.workspace import Workspace

_NOT_LONGER = 1.2  # a fifth
_FIRST_ROUND = 128


def run(workspace: Workspace) -> Outcome:
    """Raises WorkerError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, CompareParameters)
    answers = rows.load(workspace.inputs.file("answers", ANSWERS))
    order = comparison_order([row.get("category", "") for row in answers], workspace.config.seed)
    ordered = [answers[index] for index in order][: parameters.comparison.max_comparisons]
    if not ordered:
        raise NoWorkDoneError("the stage evaluate left no answers to compare")
    judging = _comparing(workspace, parameters)
    checked = _checked(workspace, parameters, judging)
    result, contests = _fought(workspace, parameters, ordered, judging)
    compared = ordered[: result.used]
    reward, rewarding = _rewarded(workspace, parameters, compared, contests)
    said = judging.said(parameters.confidence_percent / 100)
    rows.write(workspace.run_folder / COMPARISONS, _rows(compared, contests, reward))
    won = [contest.won for contest in contests]
    by_category, left_out = judge_categories.reported(checked.by_category, said.by_category)
    return Outcome(
        counts={
            "comparisons": len(won),
            "wins": sum(share > 0.5 for share in won),
            "losses": sum(share < 0.5 for share in won),
            "ties": won.count(0.5),
            "notLonger": sum(not is_longer(row) for row in compared),
            **_added(said.counts, rewarding.counts),
            **checked.counts,
            **left_out,
        },
        measurements={
            **measured(parameters, answers, compared, result, contests, reward),
            **said.measurements,
            **checked.measurements,
        },
        by_category=by_category,
        model=candidate_of(workspace),
    )


def _added(counts: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) + others.get(name, 0) for name in {**counts, **others}}


def _comparing(workspace: Workspace, parameters: CompareParameters) -> Referee:
    """By spec.evaluation.comparison.judge, or else spec.judge. Raises InvalidConfigError if there is neither."""
    if parameters.comparison.judge is not None:
        return referee(workspace, parameters.comparison.judge, "comparisonJudge")
    if parameters.judge is None:
        raise InvalidConfigError("parameters.comparison.judge: is missing, and so is judge; name one of them")
    return referee(workspace, parameters.judge, "judge")


def _checked(workspace: Workspace, parameters: CompareParameters, judging: Referee) -> Outcome:
    """By people's labels, as the training judge was. Raises JudgeStaleError, and what the judge raises."""
    if parameters.comparison.judge is None:
        return Outcome({})
    return unseen.checked(workspace, judging.judge, "comparisonJudge", parameters.confidence_percent)


def head_to_head_of(
    parameters: CompareParameters, ordered: Sequence[dict[str, Any]], contests: Sequence[Contest]
) -> HeadToHead:
    """Of these rows, in this order, as far as the comparison goes."""
    return head_to_head(
        [contest.won for contest in contests],
        [not is_longer(row) for row in ordered],
        parameters.min_percent,
        parameters.comparison.min_comparisons,
        parameters.comparison.max_comparisons,
        parameters.confidence_percent / 100,
        _needed(parameters),
    )


def measured(
    parameters: CompareParameters,
    answers: Sequence[dict[str, Any]],
    compared: Sequence[dict[str, Any]],
    result: HeadToHead,
    contests: Sequence[Contest],
    reward: Sequence[Contest] | None,
) -> dict[str, Measurement]:
    """By the names that the gates know. `contests` and `reward`: what both judges say of the rows of `compared`."""
    confidence, needed = parameters.confidence_percent / 100, _needed(parameters)
    found = {
        names.WIN_RATE: result.overall,
        names.WIN_RATE_NOT_LONGER: result.not_longer,
        names.WIN_RATE_LENGTH_CONTROLLED: length_controlled.win_rate(
            [contest.won for contest in contests], list(map(_longer_by, compared)), confidence
        ),
    }
    if reads_answers(parameters.comparison.judge or parameters.judge):
        candidate, incumbent = ([row[side]["ids"] for row in answers] for side in SIDES)
        found[names.NEW_PHRASE] = new_phrase(candidate, incumbent, confidence)
    if needed is not None:
        found[names.WIN_RATE_EVIDENCE] = Measurement(estimate=result.evidence, n=result.used)
        found[names.WIN_RATE_EVIDENCE_NEEDED] = Measurement(estimate=needed, n=result.used)
    if reward is not None:
        found[names.REWARD_WIN_RATE] = win_rate_of(reward, confidence)
    return found


def is_longer(row: dict[str, Any]) -> bool:
    """Whether the candidate's answer is over a fifth longer than the incumbent's, in tokens."""
    return len(row["candidate"]["ids"]) > _NOT_LONGER * len(row["incumbent"]["ids"])


def _longer_by(row: dict[str, Any]) -> int:
    """Tokens of the candidate's answer less those of the incumbent's."""
    return len(row["candidate"]["ids"]) - len(row["incumbent"]["ids"])


def win_rate_of(contests: Sequence[Contest], confidence: float) -> Measurement:
    rate = WinRate(confidence)
    for contest in contests:
        rate.update(contest.won)
    return rate.measurement()


def candidate_of(workspace: Workspace) -> Located | None:
    """Whose answers were compared, as the stage that kept them says."""
    model = SealedFolder.open(workspace.inputs.path("answers")).manifest["result"].get("model")
    return Located.from_wire(model) if model else None


def _fought(
    workspace: Workspace,
    parameters: CompareParameters,
    ordered: Sequence[dict[str, Any]],
    judging: Referee,
) -> tuple[HeadToHead, list[Contest]]:
    """What came of it, and the contests that count.

    In rounds, so that a judgement that is not needed is not bought; where it stops does not depend on the rounds.
    """
    workspace.progress.begin(len(ordered), "comparisons", "comparing")
    contests: list[Contest] = []
    result: HeadToHead | None = None
    for start, stop in _rounds(len(ordered), parameters.comparison.min_comparisons):
        contests += judging.contests(ordered[start:stop])
        workspace.progress.reach(stop)
        result = head_to_head_of(parameters, ordered[:stop], contests)
        if result.used < stop:
            break
    assert result is not None
    return result, contests[: result.used]


def _needed(parameters: CompareParameters) -> float | None:
    """Logarithm of the e-value that passes at the test's level."""
    return None if parameters.level_percent is None else -log(parameters.level_percent / 100)


def _rounds(count: int, least: int) -> Iterator[tuple[int, int]]:
    """Each as long as all before it, so that testing anew after each costs no more than twice the last."""
    start, stop = 0, min(count, max(_FIRST_ROUND, least))
    while start < count:
        yield start, stop
        start, stop = stop, min(count, 2 * stop)


def _rewarded(
    workspace: Workspace,
    parameters: CompareParameters,
    compared: Sequence[dict[str, Any]],
    contests: Sequence[Contest],
) -> tuple[Sequence[Contest] | None, Outcome]:
    """The same comparisons by the training judge, whose winnings alone prove nothing, and what that took."""
    if parameters.judge is None:
        return None, Outcome({})
    if parameters.comparison.judge is None:
        return contests, Outcome({})
    judging = referee(workspace, parameters.judge, "judge")
    rewarded = judging.contests(compared)
    return rewarded, judging.said(parameters.confidence_percent / 100)


def _rows(
    compared: Sequence[dict[str, Any]], contests: Sequence[Contest], reward: Sequence[Contest] | None
) -> Iterator[dict[str, Any]]:
    for index, (row, contest) in enumerate(zip(compared, contests, strict=True)):
        written = {"line": row["line"], **_scores(contest), "longer": is_longer(row)}
        yield written | ({"reward": _scores(reward[index])} if reward is not None else {})


def _scores(contest: Contest) -> dict[str, float]:
    return {"candidate": contest.candidate, "incumbent": contest.incumbent, "won": contest.won}

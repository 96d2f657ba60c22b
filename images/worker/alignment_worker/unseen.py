"""Whether a judge agrees with the labels of the datasets: a reward model on what it was not trained on, an LLM on any.

A reward model that the stage `reward` made carries `trained-on.json` in its folder: {"prompts": [...]}, for each prompt
of its training pairs the first 16 hexadecimal digits of the SHA-256 of its normalised text. Of a model without that
file nothing is known, and all pairs count as unseen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignment_api import digests
from alignment_api.measurements import COMPARISON_JUDGE_ACCURACY, JUDGE_ACCURACY, Measurement
from alignment_worker import judge_categories, rows
from alignment_worker.artifacts import PAIRS
from alignment_worker.failures import InvalidModelError, JudgeStaleError
from alignment_worker.inputs import Inputs
from alignment_worker.llm_judge import LLMJudge, Matchup
from alignment_worker.rows import Pair, Prompt
from alignment_worker.scoring import Question, RewardModel, Scorer
from alignment_worker.statistics import reward_quality
from alignment_worker.statistics.mean_change import mean
from alignment_worker.store import Outcome
from alignment_worker.workspace import Workspace

TRAINED_ON = "trained-on.json"
MOST = 200  # pairs that a judge is checked on
FEWEST = 50  # with fewer, a judge that is right in 70 % of all pairs need not clear the limit
LIMIT_PERCENT = 55.0  # for a reward model, which was trained to agree
CHANCE_PERCENT = 50.0  # for an LLM, which was not


@dataclass(frozen=True)
class _Role:
    """What a judge is called in the spec, in counts and in measurements."""

    field: str
    pairs: str
    accuracy: str


_ROLES = {
    "judge": _Role("spec.judge", "unseenPairs", JUDGE_ACCURACY),
    "comparisonJudge": _Role(
        "spec.evaluation.comparison.judge", "comparisonUnseenPairs", COMPARISON_JUDGE_ACCURACY
    ),
}
_DIGITS = 16


@dataclass(frozen=True)
class Labelled:
    """Two answers to a prompt, as people's labels have them; the category if the row names one."""

    chosen: Question
    rejected: Question
    category: str | None


def mark(prompt: Prompt) -> str:
    """The same for prompts that ask the same."""
    return digests.short(digests.of_bytes(rows.normalised(prompt).encode()), _DIGITS)


def trained_on(folder: Path) -> frozenset[str]:
    """Marks of the prompts that the model in the folder was trained on, as far as it says. Raises InvalidModelError."""
    file = folder / TRAINED_ON
    if not file.is_file():
        return frozenset()
    try:
        return frozenset(json.loads(file.read_bytes())["prompts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidModelError(
            f"{file}: is not what the stage reward writes: {error}; copy the model's folder again, or delete the file"
        ) from error


def write_trained_on(folder: Path, marks: Iterable[str]) -> None:
    """Raises OSError."""
    (folder / TRAINED_ON).write_text(json.dumps({"prompts": sorted(set(marks))}))


def questions(pair: Pair, where: str) -> tuple[Question, Question]:
    """The chosen and the rejected answer, as a judge is asked about them."""
    return _question(pair.prompt, pair.chosen, where), _question(pair.prompt, pair.rejected, where)


def _question(prompt: Prompt, answer: Prompt, where: str) -> Question:
    if isinstance(answer, str):
        return Question(where, prompt, answer)
    assert not isinstance(prompt, str)  # rows.pair_of refuses messages behind a string
    return Question(where, [*prompt, *answer[:-1]], answer[-1]["content"])


def checked(workspace: Workspace, judge: Scorer | LLMJudge, role: str, confidence_percent: float) -> Outcome:
    """How well a judge does on the newest pairs of the datasets; a verifier is not asked.

    `role`: judge or comparisonJudge. Raises JudgeStaleError, and what the judge and `newest_pairs` raise.
    """
    if not isinstance(judge, RewardModel | LLMJudge):
        return Outcome({})
    called = _ROLES[role]
    if not any(workspace.inputs.roles("dataset")):
        return Outcome({called.pairs: 0})
    confidence = confidence_percent / 100
    measured: Callable[[Sequence[float], float], Measurement]
    if isinstance(judge, LLMJudge):
        pairs = newest_pairs(workspace.inputs)
        leads = _leads(workspace, judge, pairs)
        measured, limit = agreement, CHANCE_PERCENT
        what = f"The LLM of {called.field}"
        remedy = f"Name another model in {called.field}.llm, or change the rubric."
    else:
        pairs = newest_pairs(workspace.inputs, trained_on(judge.folder), judge.reads)
        leads = margins(judge, [(pair.chosen, pair.rejected) for pair in pairs])
        measured, limit = reward_quality.accuracy, LIMIT_PERCENT
        what = f"The reward model {workspace.config.inputs[role].uri}"
        remedy = f"Train a new one on newer pairs (spec.reward), or name another in {called.field}.rewardModel.uri."
    accuracy = measured(leads, confidence)
    refuse_if_stale(what, accuracy, remedy, limit)
    groups = judge_categories.grouped(leads, [pair.category for pair in pairs])
    judge_categories.refuse_if_against_people(what, groups, confidence, remedy)
    return Outcome(
        {called.pairs: accuracy.n, f"{called.pairs}Missing": max(0, FEWEST - accuracy.n)},
        {called.accuracy: accuracy} if accuracy.n else {},
        {category: {called.accuracy: measured(some, confidence)} for category, some in groups.items()},
    )


def _leads(workspace: Workspace, judge: LLMJudge, pairs: Sequence[Labelled]) -> list[float]:
    """What the chosen answers win by, in both orders: from −½ to ½, and 0 is a tie."""
    matchups = [matchup(pair.chosen, pair.rejected, pair.category) for pair in pairs]
    workspace.progress.begin(len(matchups), "pairs", "comparing with people's labels")
    return [share - 0.5 for share in judge.shares(matchups, workspace.progress.advance)]


def matchup(chosen: Question, rejected: Question, category: str | None = None) -> Matchup:
    """Tokens are not known here: characters stand for them."""
    lengths = len(chosen.text), len(rejected.text)
    return Matchup(chosen.prompt, chosen.text, rejected.text, *lengths, category)


def agreement(leads: Sequence[float], confidence: float) -> Measurement:
    """Of an LLM, in percent: the chosen answer's share of the win, a tie being half, with Student's t interval."""
    return mean([50 + 100 * lead for lead in leads], confidence)


def newest_pairs(
    inputs: Inputs, seen: Collection[str] = (), reads: Callable[[Question], bool] = lambda _: True
) -> list[Labelled]:
    """At most MOST pairs that people judged, one of each prompt; none whose mark is in `seen`.

    The newest of a dataset is its last row; several datasets take turns. Raises InvalidRowError, and what `reads` and
    `Inputs.file` raise.
    """
    used = set(seen)
    found = []
    for pair, where in _newest_first(inputs):
        marked = mark(pair.prompt)
        if marked in used or pair.by_judge:
            continue
        both = questions(pair, where)
        if reads(both[0]) and reads(both[1]):
            used.add(marked)
            found.append(Labelled(*both, pair.category))
            if len(found) == MOST:
                break
    return found


def _newest_first(inputs: Inputs) -> Iterator[tuple[Pair, str]]:
    files = [inputs.file(role, PAIRS) for role in inputs.roles("dataset")]
    newest = [
        [(pair, f"{file}: line {pair.number}") for pair in rows.read_pairs(file)][::-1] for file in files
    ]
    for place in range(max(map(len, newest), default=0)):
        yield from (pairs[place] for pairs in newest if place < len(pairs))


def margins(judge: RewardModel, pairs: Sequence[tuple[Question, Question]]) -> list[float]:
    """Score of the chosen minus that of the rejected answer, pair by pair."""
    scores = judge.scores([question for pair in pairs for question in pair])
    return [chosen - rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]


def refuse_if_stale(
    what: str, accuracy: Measurement, remedy: str, limit: float = LIMIT_PERCENT, labels: str = "spec.datasets"
) -> None:
    """`accuracy` and `limit`: in percent; `labels`: where they are from.

    Raises JudgeStaleError unless it is shown to be above; too few pairs show nothing, and pass.
    """
    if accuracy.n < FEWEST or accuracy.low is None or accuracy.low > limit:
        return
    raise JudgeStaleError(
        f"{what} prefers the chosen answer in {accuracy.estimate:.1f} % [{accuracy.low:.1f}, {accuracy.high:.1f}] of "
        f"{accuracy.n} pairs that it has not seen. The lower end must be above {limit:g} %, or its judgements "
        f"are little more than chance. {remedy} Or look whether chosen and rejected are the right way round in "
        f"{labels}."
    )

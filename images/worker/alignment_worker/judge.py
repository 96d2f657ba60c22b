"""The stage `judge`: scores the sampled completions, or has them compared, and makes pairs of them.

Makes scores.jsonl (a row for each prompt: `line`, `scores`) and pairs.jsonl, a row for each pair: `prompt`, the texts
`chosen` and `rejected`, `prompt_ids`, `chosen_ids`, `rejected_ids` (EOS counted; a truncated answer has none),
`chosen_log_probs`, `rejected_log_probs` (raw, of the sampling policy), `chosen_score`, `rejected_score`, `line`. And
best.jsonl, a row for each prompt with its best completion: `prompt`, `chosen`, `prompt_ids`, `chosen_ids`,
`chosen_score`, `line`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

from alignment_api.cycle import Judge
from alignment_api.measurements import JUDGE_ACCURACY, SCORE_SPREAD, Measurement
from alignment_api.stage import JudgeParameters
from alignment_worker import llm_ranking, rows, unseen
from alignment_worker.artifacts import BEST, PAIRS, SAMPLES
from alignment_worker.failures import NoWorkDoneError
from alignment_worker.llm_judge import LLMJudge
from alignment_worker.scoring import Question, RewardModel, Scorer, scorer
from alignment_worker.statistics import reward_quality
from alignment_worker.store import Outcome
from alignment_worker.workspace import Workspace


def run(workspace: Workspace) -> Outcome:
    """Raises WorkerError."""
    parameters = workspace.config.parameters
    assert isinstance(parameters, JudgeParameters)
    samples = rows.load(workspace.inputs.file("samples", SAMPLES))
    if not any(row["completions"] for row in samples):
        raise NoWorkDoneError("the stage sample left nothing to judge")
    judging = _compared if parameters.judge.llm else _scored
    scores, judged = judging(workspace, parameters, samples)
    made = [
        choose(row, values, parameters.judge, workspace.config.seed)
        for row, values in zip(samples, scores, strict=True)
    ]
    rows.write(
        workspace.run_folder / "scores.jsonl",
        ({"line": row["line"], "scores": values} for row, values in zip(samples, scores, strict=True)),
    )
    count = rows.write(workspace.run_folder / PAIRS, (pair for choice in made for pair in choice.pairs))
    best = rows.write(
        workspace.run_folder / BEST,
        filter(None, (best_of(*each, parameters.judge) for each in zip(samples, scores, strict=True))),
    )
    return Outcome(
        counts={
            "prompts": len(samples),
            "pairs": count,
            "best": best,
            "ties": sum(choice.ties for choice in made),
            "tooClose": sum(choice.too_close for choice in made),
            **judged.counts,
        },
        measurements={
            SCORE_SPREAD: Measurement(estimate=fmean(map(pstdev, scores)), n=len(scores)),
            **judged.measurements,
        },
    )


def _compared(
    workspace: Workspace, parameters: JudgeParameters, samples: Sequence[dict[str, Any]]
) -> tuple[list[list[float]], Outcome]:
    """By an LLM, which sees two answers at a time."""
    assert parameters.judge.llm is not None
    judge = LLMJudge(workspace, parameters.judge.llm, "judge")
    scores = llm_ranking.scores(judge, samples, workspace.progress)
    return scores, Outcome(judge.counts(), judge.measurements(parameters.confidence_percent / 100))


def _scored(
    workspace: Workspace, parameters: JudgeParameters, samples: Sequence[dict[str, Any]]
) -> tuple[list[list[float]], Outcome]:
    """By a reward model or a verifier, which sees one answer at a time."""
    questions = [
        Question(
            f"prompts: line {row['line']}",
            row["prompt"],
            answer["text"],
            row.get("answer"),
            row.get("grader"),
        )
        for row in samples
        for answer in row["completions"]
    ]
    judge = scorer(workspace, parameters.judge, "judge")
    checked = _checked(workspace, judge, parameters.confidence_percent / 100)
    workspace.progress.begin(len(questions), "judgements", "judging")
    flat = iter(judge.scores(questions, workspace.progress))
    scores = [[next(flat) for _ in row["completions"]] for row in samples]
    return scores, Outcome({"judgements": len(questions), **checked.counts}, checked.measurements)


def _checked(workspace: Workspace, judge: Scorer, confidence: float) -> Outcome:
    """How well a reward model does on pairs that it has not seen, before it judges. Raises JudgeStaleError."""
    if not isinstance(judge, RewardModel):
        return Outcome({})
    pairs = unseen.newest_pairs(workspace.inputs, judge)
    accuracy = reward_quality.accuracy(unseen.margins(judge, pairs), confidence)
    unseen.refuse_if_stale(
        f"The reward model {workspace.config.inputs['judge'].uri}",
        accuracy,
        "Train a new one on newer pairs (spec.reward), or name another in spec.judge.rewardModel.uri.",
    )
    counts = {"unseenPairs": accuracy.n, "unseenPairsMissing": max(0, unseen.FEWEST - accuracy.n)}
    return Outcome(counts, {JUDGE_ACCURACY: accuracy} if pairs else {})


@dataclass(frozen=True)
class Choice:
    """The pairs of one prompt, and how many were dropped because both answers are equally good, or nearly."""

    pairs: list[dict[str, Any]]
    ties: int
    too_close: int


def choose(row: dict[str, Any], scores: Sequence[float], judge: Judge, seed: int) -> Choice:
    """Pairs of one prompt's completions by `judge.pairs`; of equally good answers the shorter is chosen."""
    pairs, ties, too_close = [], 0, 0
    for better, worse in _candidates(row, scores, judge, seed):
        margin = scores[better] - scores[worse]
        if margin <= 0:
            ties += 1
        elif margin < judge.min_margin:
            too_close += 1
        else:
            pairs.append(_pair(row, scores, better, worse))
    return Choice(pairs, ties, too_close)


def best_of(row: dict[str, Any], scores: Sequence[float], judge: Judge) -> dict[str, Any] | None:
    """The best completion of one prompt, of equals the shorter; none if the judge is a verifier and all are wrong."""
    best = _ranked(row, scores)[0]
    if judge.verifier is not None and scores[best] <= 0:
        return None
    return {
        "prompt": row["prompt"],
        "chosen": row["completions"][best]["text"],
        "prompt_ids": row["prompt_ids"],
        "chosen_ids": row["completions"][best]["ids"],
        "chosen_score": scores[best],
        "line": row["line"],
    }


def _ranked(row: dict[str, Any], scores: Sequence[float]) -> list[int]:
    """Indices, best first; of equals the shorter first."""
    lengths = [len(answer["ids"]) for answer in row["completions"]]
    return sorted(range(len(scores)), key=lambda index: (-scores[index], lengths[index], index))


def _candidates(
    row: dict[str, Any], scores: Sequence[float], judge: Judge, seed: int
) -> Iterator[tuple[int, int]]:
    """Indices (better, worse), equally good ones included."""
    ranked = _ranked(row, scores)
    if judge.pairs == "AllPairs":
        yield from ((better, worse) for place, better in enumerate(ranked) for worse in ranked[place + 1 :])
        return
    best = ranked[0]
    lesser = [index for index in range(len(scores)) if scores[index] < scores[best]]
    if not lesser:
        yield best, ranked[-1]
    elif judge.pairs == "BestRandom":
        yield best, random.Random(f"{seed}/{row['line']}").choice(lesser)  # noqa: S311 - a draw, not a secret
    else:
        # Of equally bad answers the first sampled: by length, the pairs would teach length.
        yield best, min(lesser, key=lambda index: (scores[index], index))


def _pair(row: dict[str, Any], scores: Sequence[float], better: int, worse: int) -> dict[str, Any]:
    chosen, rejected = row["completions"][better], row["completions"][worse]
    return {
        "prompt": row["prompt"],
        "chosen": chosen["text"],
        "rejected": rejected["text"],
        "prompt_ids": row["prompt_ids"],
        "chosen_ids": chosen["ids"],
        "rejected_ids": rejected["ids"],
        "chosen_log_probs": chosen["log_probs"],
        "rejected_log_probs": rejected["log_probs"],
        "chosen_score": scores[better],
        "rejected_score": scores[worse],
        "line": row["line"],
    }

"""The stage `judge`: scores the sampled completions, or has them compared, and makes pairs of them.

Makes scores.jsonl (a row for each prompt: `line`, `scores`, and `penalised` with a length penalty) and pairs.jsonl, a
row for each pair: `prompt`, the texts `chosen` and `rejected`, `prompt_ids`, `chosen_ids`, `rejected_ids` (EOS counted;
a truncated answer has none), `chosen_log_probs`, `rejected_log_probs` (raw, of the sampling policy), `chosen_score`,
`rejected_score`, `line`. And best.jsonl, a row for each prompt with its best completion: `prompt`, `chosen`,
`prompt_ids`, `chosen_ids`, `chosen_score`, `line`.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import Any

from alignment_api.measurements import SCORE_LENGTH_SLOPE, SCORE_SPREAD, Measurement
from alignment_api.stage import JudgeParameters
from alignment_worker import judge_categories, length_penalty, llm_ranking, rows, short_correct, unseen
from alignment_worker.artifacts import BEST, PAIRS, SAMPLES
from alignment_worker.failures import NoWorkDoneError
from alignment_worker.llm_judge import LLMJudge, seat
from alignment_worker.pairing import best_of, choose
from alignment_worker.scoring import Question, scorer
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
    penalty = parameters.judge.length_penalty
    penalised = length_penalty.applied(samples, scores, penalty)
    seed = workspace.config.seed
    made = [
        choose(row, values, parameters.judge, seed) for row, values in zip(samples, penalised, strict=True)
    ]
    chosen = [pair for choice in made for pair in choice.pairs]
    short = short_correct.mixed_in(
        samples,
        penalised,
        chosen,
        parameters.judge.short_correct_percent,
        seed,
        python=workspace.config.python_grader is not None,
    )
    rows.write(
        workspace.run_folder / "scores.jsonl",
        (
            {"line": row["line"], "scores": values} | ({} if penalty is None else {"penalised": less})
            for row, values, less in zip(samples, scores, penalised, strict=True)
        ),
    )
    count = rows.write(workspace.run_folder / PAIRS, [*chosen, *short])
    best = rows.write(
        workspace.run_folder / BEST,
        filter(None, (best_of(*each, parameters.judge) for each in zip(samples, penalised, strict=True))),
    )
    return Outcome(
        counts={
            "prompts": len(samples),
            "pairs": count,
            "best": best,
            "ties": sum(choice.ties for choice in made),
            "tooClose": sum(choice.too_close for choice in made),
            **({"shortCorrect": len(short)} if parameters.judge.short_correct_percent else {}),
            **judged.counts,
        },
        measurements={
            SCORE_SPREAD: Measurement(estimate=fmean(map(pstdev, scores)), n=len(scores)),
            SCORE_LENGTH_SLOPE: length_penalty.slope(
                samples, scores, parameters.confidence_percent / 100, seed
            ),
            **judged.measurements,
        },
        by_category=judged.by_category,
    )


def _compared(
    workspace: Workspace, parameters: JudgeParameters, samples: Sequence[dict[str, Any]]
) -> tuple[list[list[float]], Outcome]:
    """By an LLM, which sees two answers at a time."""
    assert parameters.judge.llm is not None
    judge = LLMJudge(parameters.judge.llm, seat(workspace, "judge"), workspace.progress)
    checked = unseen.checked(workspace, judge, "judge", parameters.confidence_percent)
    scores = llm_ranking.scores(judge, samples, workspace.progress)
    confidence = parameters.confidence_percent / 100
    by_category, left_out = judge_categories.reported(checked.by_category, judge.by_category(confidence))
    counts = judge.counts() | checked.counts | left_out
    return scores, Outcome(counts, judge.measurements(confidence) | checked.measurements, by_category)


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
    checked = unseen.checked(workspace, judge, "judge", parameters.confidence_percent)
    workspace.progress.begin(len(questions), "judgements", "judging")
    flat = iter(judge.scores(questions, workspace.progress))
    scores = [[next(flat) for _ in row["completions"]] for row in samples]
    by_category, left_out = judge_categories.reported(checked.by_category)
    counts = {"judgements": len(questions), **checked.counts, **left_out}
    return scores, Outcome(counts, checked.measurements, by_category)

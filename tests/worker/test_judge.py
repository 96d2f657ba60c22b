"""Pairs from scores, and scores from reward models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from alignment_api.cycle import Judge
from alignment_api.judges import RewardModel as RewardModelJudge
from alignment_api.judges import Verifier
from alignment_worker import pairing
from alignment_worker.failures import InvalidModelError
from alignment_worker.progress import Progress
from alignment_worker.scoring import Question, RewardModel
from tests.worker import tiny

EOS = tiny.EOS


def row(*lengths: int) -> dict[str, Any]:
    """A prompt with answers of these lengths, each named by its place."""
    answers = [
        {"ids": [9] * length, "text": str(place), "log_probs": [-1.0] * length, "truncated": False}
        for place, length in enumerate(lengths)
    ]
    return {"prompt": "p", "prompt_ids": [1], "line": 1, "completions": answers}


def chosen(pairs: str, lengths: list[int], scores: list[float], margin: float = 0.0, seed: int = 0) -> Any:
    """(chosen, rejected) by place; ties; too close."""
    judge = Judge(verifier=Verifier(), pairs=pairs, min_margin=margin)
    choice = pairing.choose(row(*lengths), scores, judge, seed)
    return [(int(p["chosen"]), int(p["rejected"])) for p in choice.pairs], choice.ties, choice.too_close


@pytest.mark.parametrize(
    ("lengths", "scores", "expected"),
    [
        ([3, 3, 3], [0.1, 0.9, 0.5], ([(1, 0)], 0, 0)),
        ([5, 2, 3], [1, 1, 0], ([(1, 2)], 0, 0)),  # of equals the shorter is chosen
        ([5, 2, 9, 1], [1, 1, 0, 0], ([(1, 2)], 0, 0)),  # of equally bad the first
        ([5, 2, 3], [1, 1, 1], ([], 1, 0)),
        ([4, 4], [0, 1], ([(1, 0)], 0, 0)),
    ],
)
def test_best_worst(lengths: list[int], scores: list[float], expected: object) -> None:
    assert chosen("BestWorst", lengths, scores) == expected


def test_best_random_rejects_any_that_is_worse() -> None:
    found = {chosen("BestRandom", [1, 1, 1, 1], [0.5, 0.9, 0.9, 0.1], seed=seed)[0][0] for seed in range(40)}
    assert found == {(1, 0), (1, 3)}


def test_all_pairs_counts_each_tie() -> None:
    assert chosen("AllPairs", [1, 1, 1], [1, 0, 1]) == ([(0, 1), (2, 1)], 1, 0)


def test_pairs_closer_than_the_margin_are_dropped_and_counted() -> None:
    assert chosen("AllPairs", [1, 1, 1], [0.0, 0.5, 1.0], margin=0.6) == ([(2, 0)], 0, 2)
    assert chosen("BestWorst", [1, 1], [0.0, 0.5], margin=0.5) == ([(1, 0)], 0, 0)


@pytest.mark.parametrize(
    ("lengths", "scores", "by_verifier", "by_reward_model"),
    [
        ([3, 3, 3], [0.0, 1.0, 0.0], "1", "1"),
        ([5, 2, 3], [1.0, 1.0, 1.0], "1", "1"),  # all tie: no pair, but a best
        ([5, 2, 3], [0.0, 0.0, 0.0], None, "1"),  # all wrong
        ([5, 2, 3], [1.0, 0.0, 1.0], "2", "2"),
    ],
)
def test_the_best_is_right_and_of_equals_the_shorter(
    lengths: list[int], scores: list[float], by_verifier: str | None, by_reward_model: str
) -> None:
    verifier, model = Judge(verifier=Verifier()), Judge(reward_model=RewardModelJudge(uri="file:///r"))
    found = [pairing.best_of(row(*lengths), scores, judge) for judge in (verifier, model)]
    assert [best and best["chosen"] for best in found] == [by_verifier, by_reward_model]


def test_the_best_holds_its_tokens_as_they_were_sampled() -> None:
    answers = row(3, 2)
    answers["completions"][1]["ids"] = [11, EOS]
    best = pairing.best_of(answers, [0.25, 0.75], Judge(verifier=Verifier()))
    assert best == {
        "prompt": "p",
        "chosen": "1",
        "prompt_ids": [1],
        "chosen_ids": [11, EOS],
        "chosen_score": 0.75,
        "line": 1,
    }


QUESTIONS = [
    Question("p: line 1", "say a", "yes"),
    Question("p: line 2", [{"role": "user", "content": "say something longer"}], "no, and more"),
    Question("p: line 3", "say b", ""),
    Question("p: line 4", "x", "y" * 30),
]


def test_a_pair_holds_the_tokens_of_its_answers() -> None:
    answers = row(1, 1)
    for place, answer in enumerate(answers["completions"]):
        answer |= {"ids": [10 + place, EOS], "log_probs": [-1.0 - place, -0.5]}
    (pair,) = pairing.choose(answers, [0.25, 0.75], Judge(verifier=Verifier()), 0).pairs
    assert (pair["chosen_ids"], pair["rejected_ids"]) == ([11, EOS], [10, EOS])
    assert (pair["chosen_log_probs"], pair["rejected_log_probs"]) == ([-2.0, -0.5], [-1.0, -0.5])
    assert (pair["chosen"], pair["chosen_score"]) == ("1", 0.75)
    assert (pair["rejected"], pair["rejected_score"]) == ("0", 0.25)


@pytest.mark.parametrize("pad", [True, False])
def test_scores_are_those_of_each_answer_alone(tmp_path: Path, pad: bool) -> None:
    folder = tiny.reward_model(tmp_path, pad=pad)
    together = RewardModel("judge", folder, 4).scores(QUESTIONS)
    alone = [RewardModel("judge", folder, 1).scores([question])[0] for question in QUESTIONS]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len({round(score, 4) for score in together}) == 4
    assert RewardModel("judge", folder, 2).scores(QUESTIONS[::-1])[::-1] == pytest.approx(alone, abs=1e-5)


def test_equal_answers_tie_whatever_the_batch(tmp_path: Path) -> None:
    """Lengths differ, so that equal answers would stand in batches of different widths."""
    judge = RewardModel("judge", tiny.reward_model(tmp_path), 3)
    questions = [Question(f"p: line {n}", "say " + "a" * (n % 9), "b" * (n % 7)) for n in range(100)]
    progress = Progress()
    progress.begin(200, "judgements")
    scores = judge.scores([*questions, *questions[::-1]], progress)
    assert scores[:100] == scores[:99:-1]
    assert progress.counts["judgements"] == progress.told()["done"] == 200


def test_scores_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    judge = RewardModel("judge", tiny.reward_model(tmp_path), 4)
    with torch.no_grad():
        judge._judge.model.score.weight.fill_(float("nan"))
    with pytest.raises(InvalidModelError, match=r"judge: the reward model gives scores that are not finite"):
        judge.scores(QUESTIONS)


def test_without_a_pad_token_the_last_token_is_scored(tmp_path: Path) -> None:
    judge = RewardModel("judge", tiny.reward_model(tmp_path, pad=False), 4)
    model = judge._judge.model
    ids = [1, *[tiny.SPECIAL.index("<eos>")] * 2]
    with torch.inference_mode():
        last = float(model.score(model.model(torch.tensor([ids])).last_hidden_state[0, -1]))
    assert judge._score([ids, [1] * 9])[0] == pytest.approx(last, abs=1e-5)


def test_an_answer_that_the_judge_has_no_embedding_for(tmp_path: Path) -> None:
    folder = tiny.with_tokens(tiny.reward_model(tmp_path), "yes")
    judge = RewardModel("judge", folder, 4)
    judge.scores([Question("p: line 8", "x", "no")])
    said = (
        r"judge: the prompt at p: line 9, or an answer to it, holds the token 'yes', whose id is 47, but the"
    )
    with pytest.raises(InvalidModelError, match=said):
        judge.scores([Question("p: line 9", "x", "oh yes")])


def test_an_answer_longer_than_the_judge_reads(tmp_path: Path) -> None:
    judge = RewardModel("judge", tiny.reward_model(tmp_path), 4)
    with pytest.raises(
        InvalidModelError, match=r"reads 128 tokens, but the prompt at p: line 9 and an answer"
    ):
        judge.scores([Question("p: line 9", "x", "y" * 200)])

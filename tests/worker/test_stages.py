"""Every stage but `train`, from its command line to its report, on three architectures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignment_api import digests, measurements
from alignment_api.judges import ComparisonJudge, RewardModel
from alignment_api.stage import WORK, ExitCode, InputKind
from alignment_worker import rows
from tests.worker import tiny
from tests.worker.loop import Loop
from tests.worker.stages import an_input

CHAT = [{"role": "user", "content": "say b"}]


@pytest.fixture
def loop(tmp_path: Path, llama: Path, other_llama: Path, reward: Path) -> Loop:
    return Loop(tmp_path, llama, other_llama, reward)


@pytest.mark.parametrize("architecture", ["llama", "qwen", "gemma"])
def test_an_iteration_runs_through(
    tmp_path: Path, architecture: str, reward: Path, request: pytest.FixtureRequest
) -> None:
    policy = request.getfixturevalue(architecture)
    candidate = getattr(tiny, architecture)(tmp_path / "candidate", seed=5)
    loop = Loop(tmp_path, policy, candidate, reward)
    sampled = loop.run(loop.sample())
    judged = loop.run(loop.judge(sampled))
    evaluated = loop.run(loop.evaluate(initial=True))
    compared = loop.run(loop.compare(evaluated))
    promoted = loop.run(loop.promote())
    for done in (sampled, judged, evaluated, compared, promoted):
        stage = json.loads((done.folder / "manifest.json").read_bytes())["stage"]
        assert done.code == 0
        assert done.result.counts[WORK[stage]] > 0
        assert done.report_bytes <= 2048
        assert done.result.manifest.digest == digests.of_file(done.folder / "manifest.json")
    assert evaluated.result.model == compared.result.model
    assert evaluated.result.model is not None
    assert evaluated.result.model.digest == digests.of_folder(candidate)


def test_the_first_stage_reports_every_digest(loop: Loop, llama: Path) -> None:
    done = loop.run(loop.sample())
    assert set(done.result.inputs) == {"policy", "prompts", "goldSet", "heldOutPrompts"}
    assert done.result.inputs["policy"] == digests.of_folder(llama)
    assert done.result.inputs["prompts"] == digests.of_file(loop.folder / "data" / "prompts.jsonl")


def test_samples_keep_prompt_tokens_and_log_probabilities(loop: Loop) -> None:
    done = loop.run(loop.sample([{"prompt": CHAT, "category": "x"}, {"prompt": "say a"}]))
    assert done.result.counts["prompts"] == 2
    assert done.result.counts["completions"] == 8
    chat, plain = done.rows("samples.jsonl")
    assert (chat["prompt"], chat["category"], chat["line"], plain["line"]) == (CHAT, "x", 1, 2)
    answers = [answer for row in (chat, plain) for answer in row["completions"]]
    assert sum(len(answer["ids"]) for answer in answers) == done.result.counts["tokens"]
    for answer in answers:
        assert len(answer["ids"]) == len(answer["log_probs"]) <= 12
        assert answer["truncated"] == (answer["ids"][-1] != tiny.EOS)
    mean = done.result.measurements[measurements.MEAN_TOKENS]
    assert mean.estimate == pytest.approx(done.result.counts["tokens"] / 8, rel=1e-3)


@pytest.mark.parametrize("settings", [{"temperature": 0.001}, {"top_p": 0.001}])
def test_samples_follow_temperature_and_nucleus(loop: Loop, settings: dict[str, float]) -> None:
    """Both leave nothing but the likeliest token."""
    done = loop.run(loop.sample(tiny.prompt_rows(3), **settings))
    for row in done.rows("samples.jsonl"):
        assert len({tuple(answer["ids"]) for answer in row["completions"]}) == 1


def test_the_same_prompt_on_another_line_is_answered_anew(loop: Loop) -> None:
    done = loop.run(loop.sample([{"prompt": "say a"}, {"prompt": "say a"}]))
    first, second = ([answer["ids"] for answer in row["completions"]] for row in done.rows("samples.jsonl"))
    assert first != second


def test_prompts_that_are_measured_on_are_left_out(loop: Loop) -> None:
    leaked: list[dict[str, Any]] = [
        {"prompt": "GOLD  3!"},
        {"prompt": [{"role": "user", "content": "held 2"}]},
    ]
    done = loop.run(loop.sample([*tiny.prompt_rows(3), *leaked]))
    assert (done.result.counts["promptsGiven"], done.result.counts["excluded"]) == (5, 2)
    assert [row["line"] for row in done.rows("samples.jsonl")] == [1, 2, 3]
    none = loop.run(loop.sample(leaked).model_copy(update={"output": f"file://{loop.folder}/none"}))
    assert none.code == ExitCode.NO_PROMPTS
    assert "all 2 prompts are in the gold set or among the held-out prompts too" in none.failure.message


def test_prompts_of_an_iteration_are_drawn_by_seed(loop: Loop) -> None:
    def drawn(seed: int) -> list[int]:
        config = loop.sample(tiny.prompt_rows(30), per_iteration=5)
        output = f"file://{loop.folder}/sample-{seed}"
        done = loop.run(config.model_copy(update={"seed": seed, "output": output}))
        return [row["line"] for row in done.rows("samples.jsonl")]

    first, second = drawn(1), drawn(2)
    assert len(set(first)) == 5
    assert first == sorted(first)
    assert first != second


def test_pairs_prefer_what_the_judge_prefers(loop: Loop) -> None:
    done = loop.run(loop.judge(loop.run(loop.sample()), pairs="AllPairs"))
    samples = {row["line"]: row for row in loop_rows(loop, "sample", "samples.jsonl")}
    scores = {row["line"]: row["scores"] for row in done.rows("scores.jsonl")}
    pairs = done.rows("pairs.jsonl")
    assert done.result.counts["pairs"] + done.result.counts["ties"] == 9 * 6
    for pair in pairs:
        texts = [answer["text"] for answer in samples[pair["line"]]["completions"]]
        by_text = dict(zip(texts, scores[pair["line"]], strict=True))
        assert pair["chosen_score"] == by_text[pair["chosen"]] > by_text[pair["rejected"]]
        assert pair["prompt_ids"] == samples[pair["line"]]["prompt_ids"]
        assert len(pair["chosen_ids"]) == len(pair["chosen_log_probs"])
    list(rows.read_pairs(done.folder / run_of(done.folder) / "pairs.jsonl"))
    best = {row["line"]: row for row in done.rows("best.jsonl")}
    assert done.result.counts["best"] == 9
    assert {line: row["chosen_score"] for line, row in best.items()} == {
        line: max(values) for line, values in scores.items()
    }


def loop_rows(loop: Loop, stage: str, name: str) -> list[dict[str, Any]]:
    return rows.load(loop.folder / stage / run_of(loop.folder / stage) / name)


def run_of(folder: Path) -> str:
    return str(json.loads((folder / "manifest.json").read_bytes())["run"])


def test_a_candidate_that_is_the_incumbent_changes_nothing_on_gold(
    tmp_path: Path, llama: Path, reward: Path
) -> None:
    loop = Loop(tmp_path, llama, llama, reward)
    done = loop.run(loop.evaluate())
    pooled = done.result.measurements[measurements.GOLD_POOLED]
    assert (pooled.estimate, pooled.discordant) == (0, 0)
    answers = done.rows("answers.jsonl")
    assert any(row["candidate"]["ids"] != row["incumbent"]["ids"] for row in answers)


def test_sampled_gold_answers_of_one_model_are_drawn_twice(tmp_path: Path, llama: Path, reward: Path) -> None:
    """The draws are all that differs, and what an A/A run is about."""
    loop = Loop(tmp_path, llama, llama, reward)
    gold = loop.run(loop.evaluate(temperature=1.0, samples=2)).rows("gold.jsonl")
    assert any(row["candidate"]["texts"] != row["incumbent"]["texts"] for row in gold)


def test_gold_and_lengths_are_what_the_answers_say(loop: Loop) -> None:
    done = loop.run(loop.evaluate(initial=True))
    gold, answers = done.rows("gold.jsonl"), done.rows("answers.jsonl")
    right = {
        name: sum(row[name]["right"][0] for row in gold) for name in ("candidate", "incumbent", "initial")
    }
    found = done.result.measurements
    change = 100 * (right["candidate"] - right["incumbent"]) / len(gold)
    assert found[measurements.GOLD_POOLED].estimate == pytest.approx(change, rel=1e-2)
    assert right["initial"] == right["incumbent"]
    tokens = {
        name: sum(len(row[name]["ids"]) for row in answers) for name in ("candidate", "incumbent", "initial")
    }
    ratio = found[measurements.LENGTH_RATIO].estimate
    assert ratio == pytest.approx(tokens["candidate"] / tokens["incumbent"], rel=1e-2)
    assert found[measurements.LENGTH_RATIO_FROM_INITIAL].estimate == ratio
    assert {"gold", "goldAccuracy", "goldFromInitial", "lengthRatio"} <= set(done.result.by_category["code"])
    dependence = [row["candidate"]["dependence"] - row["incumbent"]["dependence"] for row in answers]
    assert found[measurements.PROMPT_DEPENDENCE_CHANGE].estimate == pytest.approx(
        sum(dependence) / len(dependence), rel=1e-2
    )


def test_a_third_model_as_the_first_is_asked_itself(loop: Loop, tmp_path: Path) -> None:
    third = tiny.llama(tmp_path / "third", seed=7)
    config = loop.evaluate(initial=True)
    config.inputs["initial"] = an_input(third, InputKind.MODEL)
    done = loop.run(config)
    gold, answers = done.rows("gold.jsonl"), done.rows("answers.jsonl")
    assert all(row["initial"]["ids"] != row["incumbent"]["ids"] for row in answers)
    tokens = {name: sum(len(row[name]["ids"]) for row in answers) for name in ("candidate", "initial")}
    ratio = done.result.measurements[measurements.LENGTH_RATIO_FROM_INITIAL].estimate
    assert ratio == pytest.approx(tokens["candidate"] / tokens["initial"], rel=1e-2)
    for category in ("code", "facts"):
        right = {
            name: [row[name]["right"][0] for row in gold if row["category"] == category]
            for name in ("candidate", "initial")
        }
        change = 100 * (sum(right["candidate"]) - sum(right["initial"])) / 6
        measured = done.result.by_category[category][measurements.GOLD_FROM_INITIAL]
        assert measured.estimate == pytest.approx(change, abs=0.1)


def test_several_samples_an_item_are_all_graded(loop: Loop) -> None:
    done = loop.run(loop.evaluate(temperature=1.0, samples=3))
    assert {len(row["candidate"]["right"]) for row in done.rows("gold.jsonl")} == {3}
    assert done.result.counts["answers"] == 2 * (12 * 3 + 12)


def test_an_answer_depends_on_its_prompt_as_a_fresh_forward_pass_says(loop: Loop, other_llama: Path) -> None:
    from alignment_worker import answers, models, prompts  # noqa: PLC0415 - loads torch
    from tests.worker.test_generate import fresh_log_probs  # noqa: PLC0415

    done = loop.run(loop.evaluate())
    held_out = rows.read(
        loop.folder / "data" / "heldout.jsonl", loop.evaluate().inputs["heldOutPrompts"].kind
    )
    other = answers.others(held_out, loop.evaluate().seed)
    assert sorted(other) == list(range(12))
    assert all(index != against for index, against in enumerate(other))
    policy = models.load_policy("candidate", other_llama)
    row = done.rows("answers.jsonl")[3]["candidate"]
    own, against = (
        sum(fresh_log_probs(policy, prompts.encode(policy.tokenizer, held_out[index].prompt), row["ids"]))
        for index in (3, other[3])
    )
    assert row["dependence"] == pytest.approx(own - against, abs=1e-3)


def test_a_comparison_is_won_by_the_better_score(loop: Loop) -> None:
    done = loop.run(loop.compare(loop.run(loop.evaluate())))
    counts, contests = done.result.counts, done.rows("comparisons.jsonl")
    assert counts["comparisons"] == counts["wins"] + counts["losses"] + counts["ties"] == len(contests)
    for contest in contests:
        for scores in (contest, contest["reward"]):
            better = (scores["candidate"] > scores["incumbent"]) - (scores["candidate"] < scores["incumbent"])
            assert scores["won"] == (1 + better) / 2
        assert contest["candidate"] in {0.0, 1.0}
    rate = done.result.measurements[measurements.WIN_RATE]
    assert rate.estimate == pytest.approx(
        100 * sum(contest["won"] for contest in contests) / len(contests), rel=1e-2
    )
    assert done.result.measurements[measurements.REWARD_WIN_RATE].n == len(contests)


def test_without_a_comparison_judge_the_training_judge_compares(loop: Loop) -> None:
    done = loop.run(loop.compare(loop.run(loop.evaluate()), judge=None))
    found = done.result.measurements
    assert found[measurements.WIN_RATE] == found[measurements.REWARD_WIN_RATE]


def test_a_reward_model_of_its_own_compares(loop: Loop, tmp_path: Path) -> None:
    other = tiny.reward_model(tmp_path / "other-reward", seed=3, pad=False)
    judge = ComparisonJudge(reward_model=RewardModel(uri=f"file://{other}", batch_size=5))
    config = loop.compare(loop.run(loop.evaluate()), judge=judge, max_comparisons=7, min_comparisons=7)
    config.inputs["comparisonJudge"] = config.inputs["judge"].model_copy(update={"uri": f"file://{other}"})
    done = loop.run(config)
    assert done.result.counts["comparisons"] == 7
    contests = done.rows("comparisons.jsonl")
    assert all(contest["candidate"] != contest["reward"]["candidate"] for contest in contests)


def test_the_evidence_is_sealed_in_the_bytes_of_its_digest(loop: Loop) -> None:
    config = loop.promote()
    done = loop.run(config)
    sealed = done.folder / run_of(done.folder) / "evidence.json"
    assert digests.of_file(sealed) == config.parameters.evidence_digest  # type: ignore[union-attr]
    ledger = json.loads((loop.folder / "ledger" / "000001.json").read_bytes())
    assert ledger["candidate"]["digest"] == digests.of_folder(loop.candidate)
    assert ledger["evidenceDigest"] == digests.of_file(sealed)


def test_a_ledger_is_never_rewritten(loop: Loop) -> None:
    loop.run(loop.promote())
    before = (loop.folder / "ledger" / "000001.json").read_bytes()
    other = loop.promote(spec={"other": 1}).model_copy(update={"output": f"file://{loop.folder}/again"})
    done = loop.run(other)
    assert done.code == ExitCode.STORE_CONFLICT
    assert "records another promotion of iteration 1" in done.failure.message
    assert (loop.folder / "ledger" / "000001.json").read_bytes() == before


def test_evidence_for_another_candidate_is_not_sealed(loop: Loop) -> None:
    other = loop.run(loop.promote(candidate_digest="sha256:" + "0" * 64))
    assert other.code == ExitCode.DIGEST_MISMATCH
    assert "what was measured is not what would be promoted" in other.failure.message
    changed = loop.run(loop.promote(evidence_digest="sha256:" + "0" * 64))
    assert changed.code == ExitCode.DIGEST_MISMATCH
    assert not (loop.folder / "ledger").exists()

"""A reward model is checked on pairs that it has not seen before it judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignment_api import digests, measurements
from alignment_api.cycle import Judge
from alignment_api.judges import Verifier
from alignment_api.stage import ExitCode, InputKind, JudgeParameters, StageConfig
from alignment_worker import inputs, judge_categories, rows, unseen
from alignment_worker.failures import InvalidModelError, JudgeStaleError
from alignment_worker.progress import Progress
from alignment_worker.scoring import Question, RewardModel
from alignment_worker.statistics import reward_quality
from alignment_worker.store import Places
from tests.worker import rewarding, stages, tiny, training
from tests.worker.loop import Loop
from tests.worker.stages import Finished, an_input


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> Path:
    """One that has learned to prefer yes to no, on the first 120 prompts."""
    done = rewarding.rewarded(tmp_path_factory.mktemp("judge"), llama, rewarding.separable(120))
    assert done.result.model is not None
    return Path(done.result.model.uri.removeprefix("file://"))


@pytest.fixture
def loop(tmp_path: Path, llama: Path, judge: Path) -> Loop:
    return Loop(tmp_path, llama, llama, judge)


def checked(loop: Loop, pairs: list[dict[str, Any]] | None) -> StageConfig:
    """The stage judge, with a dataset of such pairs or without any."""
    made = loop.judge(loop.run(loop.sample(tiny.prompt_rows(2))))
    if pairs is None:
        return made
    dataset = training.sealed(loop.folder / "dataset", "pairs.jsonl", pairs)
    return made.model_copy(
        update={"inputs": made.inputs | {"dataset/people": an_input(dataset, InputKind.STAGE)}}
    )


def found(loop: Loop, pairs: list[dict[str, Any]] | None) -> Finished:
    return loop.run(checked(loop, pairs))


def newest(folder: Path, judge: Path, *datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Prompt and chosen answer of the pairs that the judge is checked on."""
    given = {
        f"dataset/d{number}": an_input(
            training.sealed(folder / f"d{number}", "pairs.jsonl", some), InputKind.STAGE
        )
        for number, some in enumerate(datasets)
    }
    config = stages.config(folder / "judge", given, JudgeParameters(judge=Judge(verifier=Verifier())))
    opened = inputs.opened(config, Places({}), Progress())
    model = RewardModel("judge", judge, 8)
    pairs = unseen.newest_pairs(opened, unseen.trained_on(judge), model.reads)
    return [(str(pair.chosen.prompt), pair.chosen.text) for pair in pairs]


def test_a_judge_that_agrees_with_unseen_pairs_judges(loop: Loop) -> None:
    done = found(loop, rewarding.separable(300))
    accuracy = done.result.measurements[measurements.JUDGE_ACCURACY]
    assert accuracy.estimate is not None
    assert accuracy.estimate > 90
    assert accuracy.n == done.result.counts["unseenPairs"] == 200
    assert done.result.counts["unseenPairsMissing"] == 0
    assert done.result.counts["judgements"] == 8


def test_a_judge_that_does_not_is_stale(loop: Loop) -> None:
    done = found(loop, rewarding.separable(300, swapped=True))
    assert (done.code, done.failure.reason) == (ExitCode.JUDGE_STALE, "JudgeStale")
    assert f"The reward model file://{loop.reward} prefers the chosen answer in" in done.failure.message
    assert "of 200 pairs that it has not seen. The lower end must be above 55 %" in done.failure.message
    assert "Train a new one on newer pairs (spec.reward), or name another" in done.failure.message
    assert not (done.folder / "manifest.json").exists()


def test_too_few_unseen_pairs_say_nothing_and_that_is_said(loop: Loop) -> None:
    done = found(loop, rewarding.separable(140, swapped=True)[120:])
    assert done.code == 0
    assert done.result.counts["unseenPairs"] == 20
    assert done.result.counts["unseenPairsMissing"] == 30
    assert done.result.measurements[measurements.JUDGE_ACCURACY].n == 20


def test_without_datasets_a_judge_is_not_checked_and_that_is_said(loop: Loop) -> None:
    done = found(loop, None)
    assert done.result.counts["unseenPairs"] == 0
    assert "unseenPairsMissing" not in done.result.counts
    assert measurements.JUDGE_ACCURACY not in done.result.measurements


def test_a_verifier_has_nothing_to_go_stale(loop: Loop) -> None:
    prompts = [
        {"prompt": "say a", "answer": "a", "grader": "Exact"},
        {"prompt": "say b", "answer": "b", "grader": "Exact"},
    ]
    made = loop.judge(loop.run(loop.sample(prompts)))
    assert isinstance(made.parameters, JudgeParameters)
    asked = made.parameters.judge.model_copy(update={"reward_model": None, "verifier": Verifier()})
    parameters = made.parameters.model_copy(update={"judge": asked})
    done = loop.run(made.model_copy(update={"parameters": parameters}))
    assert "unseenPairs" not in done.result.counts


@pytest.mark.parametrize(
    ("right", "count", "stale"),
    [(35, 50, False), (34, 50, True), (0, 49, False), (125, 200, False), (124, 200, True)],
)
def test_the_interval_must_clear_55_percent_once_there_are_enough_pairs(
    right: int, count: int, *, stale: bool
) -> None:
    accuracy = reward_quality.accuracy([1.0] * right + [-1.0] * (count - right), 0.95)
    if stale:
        with pytest.raises(JudgeStaleError, match=f"of {count} pairs"):
            unseen.refuse_if_stale("It", accuracy, "Mend it.")
    else:
        unseen.refuse_if_stale("It", accuracy, "Mend it.")


def test_prompts_that_it_was_trained_on_are_seen_however_they_are_spelt(tmp_path: Path, judge: Path) -> None:
    seen = unseen.trained_on(judge)
    assert len(seen) == 90
    fresh = [row for row in rewarding.separable(120) if unseen.mark(row["prompt"]) not in seen]
    shouted = [{**row, "prompt": row["prompt"].upper() + "!"} for row in rewarding.separable(120)]
    assert len(newest(tmp_path, judge, shouted)) == len(fresh) == 30


def test_the_last_rows_are_the_newest_and_datasets_take_turns(tmp_path: Path, judge: Path) -> None:
    one = [{"prompt": f"a{number}", "chosen": "yes", "rejected": "no"} for number in range(150)]
    other = [{"prompt": f"b{number}", "chosen": "yes", "rejected": "no"} for number in range(300)]
    prompts = [prompt for prompt, _ in newest(tmp_path, judge, one, other)]
    assert prompts[:4] == ["a149", "b299", "a148", "b298"]
    assert len(prompts) == 200


def test_of_each_prompt_the_newest_pair_counts(tmp_path: Path, judge: Path) -> None:
    some = [
        {"prompt": "a", "chosen": "yes 1", "rejected": "no"},
        {"prompt": "b", "chosen": "yes 2", "rejected": "no"},
        {"prompt": "a", "chosen": "yes 3", "rejected": "no"},
    ]
    assert newest(tmp_path, judge, some) == [("a", "yes 3"), ("b", "yes 2")]


def test_what_the_judge_cannot_read_is_left_out(tmp_path: Path, judge: Path) -> None:
    """Longer than it reads, or chat messages for a tokenizer without a template."""
    some: list[dict[str, Any]] = [
        {"prompt": "a", "chosen": "yes", "rejected": "no" * 100},
        {"prompt": [{"role": "user", "content": "b"}], "chosen": "yes", "rejected": "no"},
        {"prompt": "c", "chosen": "yes", "rejected": "no"},
    ]
    assert [prompt for prompt, _ in newest(tmp_path / "with", judge, some)] == [
        "c",
        "[{'role': 'user', 'content': 'b'}]",
    ]
    plain = tiny.reward_model(tmp_path / "plain")
    (plain / "chat_template.jinja").unlink()
    assert newest(tmp_path / "without", plain, some) == [("c", "yes")]


def test_chat_answers_are_asked_about_as_the_judge_is_asked() -> None:
    chat = [{"role": "user", "content": "a"}]
    several = [
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    chosen, rejected = unseen.questions(rows.Pair(1, chat, several, several[:1]), "here")
    assert chosen == Question("here", [*chat, *several[:2]], "d")
    assert rejected == Question("here", chat, "b")


def test_a_model_that_says_nothing_has_seen_nothing_as_far_as_is_known(tmp_path: Path, reward: Path) -> None:
    assert unseen.trained_on(reward) == frozenset()
    unseen.write_trained_on(tmp_path, ["b", "a", "b"])
    assert unseen.trained_on(tmp_path) == {"a", "b"}


def test_a_damaged_list_is_an_error_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "trained-on.json").write_text("{")
    with pytest.raises(InvalidModelError, match=r"trained-on\.json: is not what the stage reward writes"):
        unseen.trained_on(tmp_path)


def test_marks_are_digests_of_what_is_asked() -> None:
    assert unseen.mark("Say A!") == unseen.mark([{"role": "user", "content": "say a"}])
    assert unseen.mark("say a") == digests.short(digests.of_bytes(b"say a"), 16)


def test_a_category_counts_and_one_that_is_none_does_not(loop: Loop) -> None:
    pairs = [{**row, "category": ("code", ["no"])[n % 2]} for n, row in enumerate(rewarding.separable(300))]
    done = found(loop, pairs)
    accuracy = done.result.by_category["code"][measurements.JUDGE_ACCURACY]
    assert list(done.result.by_category) == ["code"]
    assert 80 < accuracy.n < 120
    assert accuracy.low is not None
    assert accuracy.low > 90


@pytest.mark.parametrize(
    ("agreed", "against", "ties", "categories", "stops"),
    [
        (0, 5, 0, 1, False),  # 1/32 > 0.025
        (0, 6, 9, 1, True),  # 1/64
        (0, 6, 0, 2, False),  # 1/64 > 0.0125: each of two has half the level
        (0, 7, 0, 2, True),
        (8, 21, 0, 1, True),  # p = 0.012
        (9, 20, 0, 1, False),  # p = 0.031
    ],
)
def test_a_category_stops_it_only_by_the_exact_sign_test(
    agreed: int, against: int, ties: int, categories: int, *, stops: bool
) -> None:
    leads = [1.0] * agreed + [-1.0] * against + [0.0] * ties
    groups = {f"c{number}": leads for number in range(categories)}
    if stops:
        with pytest.raises(JudgeStaleError, match=f"'c0': {agreed} of {agreed + against} "):
            judge_categories.refuse_if_against_people("It", groups, 0.95, "Mend it.")
    else:
        judge_categories.refuse_if_against_people("It", groups, 0.95, "Mend it.")

"""Which token ids are trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from alignment_api.cycle import DatasetReference
from alignment_api.stage import InputKind, TrainParameters
from alignment_worker import train_best_of_n
from alignment_worker.failures import ContaminatedError, InvalidRowError, TooFewPairsError
from alignment_worker.inputs import Inputs
from alignment_worker.rows import Pair, Unpaired
from alignment_worker.train_pairs import Dropped, Gathered, TokenPair, gather, tokenised
from tests.worker import tiny, training

BOS, EOS, USER, ASSISTANT = 1, 2, 3, 4
CHAT = [{"role": "user", "content": "hi"}]

Found = Sequence[tuple[str, str, str | bool]]


def letters(words: Any, text: str) -> list[int]:
    ids: list[int] = words.convert_tokens_to_ids(list(text))
    return ids


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_an_unpaired_answer_is_tokenised_as_that_of_a_pair() -> None:
    words = training.tokenizer()
    for prompt, answer in (("hi ", "you"), (CHAT, said("yes"))):
        paired = tokenised(words, pair(prompt, answer, "no" if prompt == "hi " else said("no")), {EOS})
        good, bad = (tokenised(words, Unpaired(1, prompt, answer, label), {EOS}) for label in (True, False))
        assert good == TokenPair(paired.prompt, paired.chosen, [])
        assert bad == TokenPair(paired.prompt, [], paired.chosen)


def pair(prompt: Any, chosen: Any, rejected: Any) -> Pair:
    return Pair(1, prompt, chosen, rejected)


def test_a_string_is_continued_as_it_is_and_ends_with_one_eos() -> None:
    words = training.tokenizer()
    found = tokenised(words, pair("hi ", "you", "me<eos>"), {EOS})
    assert found == TokenPair(
        letters(words, "hi "), [*letters(words, "you"), EOS], [*letters(words, "me"), EOS]
    )


@pytest.mark.parametrize("as_text", [True, False])
def test_a_chat_goes_through_the_template_once_and_stops_at_eos(as_text: bool) -> None:
    words = training.tokenizer()
    answers = ("yes", "no") if as_text else (said("yes"), said("no"))
    found = tokenised(words, pair(CHAT, *answers), {EOS})
    assert found == TokenPair(
        [USER, *letters(words, "hi"), ASSISTANT], [*letters(words, "yes"), EOS], [*letters(words, "no"), EOS]
    )


def test_a_template_that_writes_bos_makes_one() -> None:
    words = training.tokenizer()
    words.chat_template = "{{ bos_token }}" + training.TEMPLATE
    found = tokenised(words, pair(CHAT, said("yes"), said("no")), {EOS})
    assert found.prompt == [BOS, USER, *letters(words, "hi"), ASSISTANT]
    assert found.chosen == [*letters(words, "yes"), EOS]


def test_another_token_that_ends_answers_is_kept() -> None:
    words = training.tokenizer()
    words.chat_template = training.TEMPLATE.replace("<eos>", "<|system|>")
    found = tokenised(words, pair(CHAT, said("yes"), said("no")), {EOS, 5})
    assert found.chosen == [*letters(words, "yes"), 5]


def test_a_template_without_an_end_gets_eos() -> None:
    words = training.tokenizer()
    words.chat_template = training.TEMPLATE.replace("<eos>\n", "")
    found = tokenised(words, pair(CHAT, said("yes"), said("no")), {EOS})
    assert found.chosen == [*letters(words, "yes"), EOS]


def gathered(
    folder: Path,
    found: Found,
    *,
    method: str = "DPO",
    sampled: Sequence[tuple[int, int, int]] = (),
    rejected_id: int = 8,
    held_out: str | None = None,
    limit: int = 100,
    max_pairs: int | None = None,
    weight: float | None = None,
    seed: int = 0,
    refuse_leaked: bool = False,
) -> Gathered:
    """From sampled pairs of so many tokens (prompt, chosen, rejected) and a dataset of (prompt, chosen, rejected) and
    (prompt, completion, label)."""
    own = [
        {"prompt_ids": [9] * prompt, "chosen_ids": [9] * chosen, "rejected_ids": [rejected_id] * rejected}
        for prompt, chosen, rejected in sampled
    ]
    single, paired = ("prompt", "completion", "label"), ("prompt", "chosen", "rejected")
    theirs = [dict(zip(single if isinstance(row[2], bool) else paired, row, strict=True)) for row in found]
    paths = {
        "pairs": training.sealed(folder / "judge", training.file_for(method), own),
        "dataset/people": training.sealed(folder / "people", "pairs.jsonl", theirs),
    }
    kinds = dict.fromkeys(paths, InputKind.STAGE)
    if held_out is not None:
        paths["heldOutPrompts"] = tiny.write_rows(folder / "heldout.jsonl", [{"prompt": held_out}])
        kinds["heldOutPrompts"] = InputKind.PROMPTS
    parameters = TrainParameters(
        training=training.training(method=method, seed=seed),
        datasets=[DatasetReference(name="people", max_pairs=max_pairs, weight=weight)],
        refuse_leaked=refuse_leaked,
    )
    words = training.tokenizer()
    return gather(Inputs(paths, kinds, {}, {}), parameters, words, {EOS}, limit, len(words))


def test_a_pair_is_as_long_as_the_longer_of_its_two(tmp_path: Path) -> None:
    """As long as the limit is not too long, sampled or not; EOS counts."""
    sampled = [(3, 2, 7), (3, 7, 2), (3, 2, 8), (3, 8, 2)]
    found: Found = [
        ("abc", "a", "abcdef"),
        ("abc", "abcdef", "a"),
        ("abc", "a", "abcdefg"),
        ("abc", "abcdefg", "a"),
    ]
    made = gathered(tmp_path, found, sampled=sampled, limit=10)
    assert [len(pair.rejected) for pair in made.on_policy] == [7, 2]
    assert sorted(len(pair.rejected) for pair in made.from_datasets) == [2, 7]
    assert made.counts()["droppedTooLong"] == 4


def test_a_datasets_pair_that_asks_a_held_out_prompt_is_left_out(tmp_path: Path) -> None:
    found: Found = [("one", "a", "b"), ("two", "a", "b"), ("three", "a", "b")]
    made = gathered(tmp_path, found, held_out="Two")
    assert [len(made.from_datasets), made.dropped.leaked] == [2, 1]
    words = training.tokenizer()
    assert {tuple(pair.prompt) for pair in made.from_datasets} == {
        tuple(letters(words, text)) for text in ("one", "three")
    }


def test_at_most_so_many_pairs_of_a_dataset_that_fit(tmp_path: Path) -> None:
    found: Found = [(f"p{n}", "a" * (1 + 9 * (n % 2)), "b") for n in range(10)]
    assert len(gathered(tmp_path / "most", found, max_pairs=3, limit=8).from_datasets) == 3
    assert len(gathered(tmp_path / "all", found, max_pairs=9, limit=8).from_datasets) == 5


@pytest.mark.parametrize(
    ("weight", "max_pairs", "drawn"),
    [
        (None, None, 9),
        (0.5, None, 2),
        (1.0, None, 4),
        (1.5, None, 6),
        (2.0, 5, 5),
        (8.0, None, 9),
        (0.1, None, 0),
    ],
)
def test_a_weight_draws_so_many_pairs_for_each_sampled_one_that_fits(
    weight: float | None, max_pairs: int | None, drawn: int, tmp_path: Path
) -> None:
    found: Found = [(f"p{n}", "a" * (1 + 99 * (n == 3)), "b") for n in range(10)]
    sampled = [(3, 2, 2)] * 4 + [(3, 99, 2)]
    made = gathered(tmp_path, found, sampled=sampled, weight=weight, max_pairs=max_pairs, limit=50)
    assert (len(made.on_policy), len(made.from_datasets)) == (4, drawn)


def test_the_seed_draws_other_pairs_and_none_twice(tmp_path: Path) -> None:
    found: Found = [(f"p{n}", "a", "b") for n in range(10)]
    draws = [
        [
            tuple(pair.prompt)
            for pair in gathered(
                tmp_path / f"{number}", found, sampled=[(3, 2, 2)] * 6, weight=1, seed=seed
            ).from_datasets
        ]
        for number, seed in enumerate((0, 0, 1))
    ]
    assert draws[0] == draws[1]
    assert set(draws[0]) != set(draws[2])
    assert [len(set(draw)) for draw in draws] == [6, 6, 6]


def test_without_a_sampled_pair_a_weight_draws_nothing_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        TooFewPairsError, match="No sampled pair is left, so none is drawn from datasets with a weight"
    ):
        gathered(tmp_path, [("one", "a", "b")], weight=2)


def test_several_messages_may_follow_a_prompt() -> None:
    words = training.tokenizer()
    turns = [*said("a"), {"role": "user", "content": "b"}, *said("c")]
    found = tokenised(words, pair(CHAT, turns, said("no")), {EOS})
    line = letters(words, "\n")
    assert found.chosen == [
        *letters(words, "a"), EOS, *line, USER, *letters(words, "b"), ASSISTANT, *letters(words, "c"), EOS,
    ]  # fmt: skip


def test_a_template_that_rewrites_the_prompt_leaves_the_prompt_as_it_is_asked() -> None:
    words = training.tokenizer()
    words.chat_template = "{% if messages | length > 1 %}x{% endif %}" + training.TEMPLATE
    found = tokenised(words, pair(CHAT, said("yes"), said("no")), {EOS})
    assert found.prompt == [USER, *letters(words, "hi"), ASSISTANT]
    assert found.chosen == [*letters(words, "yes"), EOS]
    with pytest.raises(InvalidRowError, match="writes the prompt in another way"):
        tokenised(words, pair(CHAT, [*said("a"), *said("b")], said("no")), {EOS})


def test_best_of_n_needs_only_the_chosen_to_fit(tmp_path: Path) -> None:
    """The best answers of the judge stage, of other pairs the chosen ones; the rejected are not looked at."""
    found: Found = [("abc", "a", "abcdefghij"), ("abc", "abcdefghij", "a")]
    made = gathered(tmp_path, found, sampled=[(3, 7, 1), (3, 8, 1)], limit=10, method="BestOfN")
    assert [(len(pair.prompt), len(pair.chosen), pair.rejected) for pair in made.pairs] == [
        (3, 7, [8]),
        (3, 2, []),
    ]
    assert made.counts("answers") == {
        "answers": 2, "answersOnPolicy": 1, "answersFromDatasets": 1, "rowsGiven": 2, "droppedTooLong": 2,
        "droppedLeaked": 0, "droppedLearned": 0, "droppedUnpaired": 0, "droppedTies": 0,
    }  # fmt: skip


def test_rows_that_leak_stop_it_before_the_training_where_the_spec_says_so(tmp_path: Path) -> None:
    found: Found = [("held", "a", "b"), ("p", "a", "b"), ("q", "a", "b")]
    clean = gathered(tmp_path / "clean", found[1:], held_out="held", refuse_leaked=True)
    assert len(clean.pairs) == 2
    with pytest.raises(
        ContaminatedError, match="1 of 3 rows of datasets hold gold or held-out prompts: take them"
    ):
        gathered(tmp_path / "leaked", found, held_out="held", refuse_leaked=True)


SINGLE: Found = [
    ("p", "good", True), ("q", "bad", False), ("held", "x", True), ("r", "far too long", False), ("s", "c", "d"),
    ("t", "e", "f"),
]  # fmt: skip


def test_kto_draws_unpaired_rows_as_pairs_are_drawn(tmp_path: Path) -> None:
    made = gathered(tmp_path / "all", SINGLE, method="KTO", held_out="Held", limit=8)
    assert Counter((bool(row.chosen), bool(row.rejected)) for row in made.pairs) == {
        (True, True): 2, (True, False): 1, (False, True): 1,
    }  # fmt: skip
    assert (made.read, made.dropped) == (6, Dropped(too_long=1, leaked=1, shortest=14))
    assert len({row.origin.pair for row in made.pairs if row.origin}) == 4
    one = gathered(tmp_path / "most", SINGLE, method="KTO", max_pairs=3)
    by_weight = gathered(tmp_path / "weight", SINGLE, method="KTO", sampled=[(3, 2, 2)] * 2, weight=2)
    assert (len(one.from_datasets), len(by_weight.from_datasets)) == (3, 4)


@pytest.mark.parametrize("method", ["DPO", "IPO", "BestOfN"])
def test_other_methods_pass_unpaired_rows_over_and_count_them(method: str, tmp_path: Path) -> None:
    made = gathered(tmp_path / "both", SINGLE, method=method)
    assert (made.read, len(made.pairs), made.dropped) == (2, 2, Dropped(unpaired=4))
    with pytest.raises(TooFewPairsError, match=r"4 unpaired rows .* are for spec.training.method KTO"):
        gathered(tmp_path / "none", SINGLE[:4], method=method)


@pytest.mark.parametrize("method", ["DPO", "IPO", "KTO", "BestOfN"])
@pytest.mark.parametrize(
    ("found", "limit", "message"),
    [
        ([], 10, "There is nothing to train on: 0 .* Give more prompts or pairs"),
        ([("a", "b", "c")], 10, "There is only one row to train on: 1 .* Give more prompts or pairs"),
        ([("a", "b", "c")], 10, "Judging made none of them: the counts ties and tooClose of stage judge"),
        (
            [("abc", "abc", "ab")] * 3,
            6,
            "nothing to train on: 3 .* 3 are longer than 6 .* Raise maxLength .the shortest of them has 7 tokens",
        ),
    ],
)
def test_too_little_is_refused_with_what_became_of_it(
    method: str, found: Found, limit: int, message: str, tmp_path: Path
) -> None:
    with pytest.raises(TooFewPairsError, match=message):
        gathered(tmp_path, found, limit=limit, method=method)


def test_two_answers_of_the_same_tokens_teach_nothing(tmp_path: Path) -> None:
    """Other texts, that the tokenizer does not tell apart."""
    same: Found = [("p", "a\u00e9", "a\u00ea"), ("q", "a", "b"), ("r", "c", "d")]
    made = gathered(tmp_path / "some", same)
    assert (len(made.pairs), made.counts()["droppedTies"]) == (2, 1)
    with pytest.raises(TooFewPairsError, match="1 have two answers of the same tokens"):
        gathered(tmp_path / "few", same[:2])
    assert len(gathered(tmp_path / "best", same, method="BestOfN").pairs) == 3


def test_two_sampled_answers_of_the_same_tokens_teach_nothing(tmp_path: Path) -> None:
    made = gathered(tmp_path, [], sampled=[(3, 4, 4), (3, 4, 5), (3, 5, 4)], rejected_id=9)
    assert (len(made.on_policy), made.counts()["droppedTies"]) == (2, 1)


def test_the_best_answer_of_each_prompt_is_learned_and_the_prompt_is_not(tmp_path: Path) -> None:
    made = gathered(tmp_path, [("p", "a", "b"), ("q", "a", "c"), ("q", "a", "d")], method="BestOfN")
    rows = train_best_of_n.rows(made, training.training(method="BestOfN"), 100)
    words = training.tokenizer()
    answer = [*letters(words, "a"), EOS]
    prompts = [ids[: -len(answer)] for ids in rows.columns["input_ids"]]
    assert {words.decode(prompt, skip_special_tokens=True) for prompt in prompts} == {"p", "q"}
    assert rows.columns["labels"] == [[-100] * len(prompt) + answer for prompt in prompts]
    assert rows.counts["droppedTwice"] == 1


def test_one_answer_again_and_again_is_one(tmp_path: Path) -> None:
    made = gathered(tmp_path, [("p", "a", "b"), ("p", "a", "c")], method="BestOfN")
    with pytest.raises(TooFewPairsError, match="of 2 best answers 1 is left, for they are the same"):
        train_best_of_n.rows(made, training.training(method="BestOfN"), 100)

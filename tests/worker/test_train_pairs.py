"""Which token ids are trained on."""

from __future__ import annotations

from typing import Any

import pytest

from alignment_worker.failures import InvalidRowError
from alignment_worker.rows import Pair
from alignment_worker.train_pairs import TokenPair, tokenised
from tests.worker import training

BOS, EOS, USER, ASSISTANT = 1, 2, 3, 4
CHAT = [{"role": "user", "content": "hi"}]


def letters(words: Any, text: str) -> list[int]:
    ids: list[int] = words.convert_tokens_to_ids(list(text))
    return ids


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


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

"""Prompts and completions as token ids, by TRL's conventions.

A string is taken as it is, a list of chat messages goes through the chat template (a last message of the assistant's
is continued). The tokenizer's own BOS is there once, whoever wrote it, and no EOS ends a prompt. What a message's
content spells stays text: it cannot end its own turn and begin another.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from alignment_worker import rows
from alignment_worker.failures import InvalidModelError, InvalidRowError
from alignment_worker.rows import Prompt, Row


def encode(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a prompt, ready to be continued.

    Raises InvalidModelError if a chat needs a template and there is none, InvalidRowError if the template refuses it.
    """
    return (
        _ids(tokenizer, prompt)
        if isinstance(prompt, str)
        else _without_double_bos(tokenizer, _plain_ids(tokenizer, render(tokenizer, prompt)))
    )


def encode_rows(
    tokenizer: Any, some: Sequence[Row], file: Path, max_positions: int | None, embeddings: int
) -> list[list[int]]:
    """Token ids of each row's prompt, for a model that knows so many tokens.

    Raises as `encode` and `check_embeddings`, and InvalidRowError if there is no room for an answer.
    """
    encoded = []
    for row in some:
        where = f"{file}: {rows.where(file)} {row.number}"
        try:
            ids = encode(tokenizer, row.prompt)
        except InvalidRowError as error:
            raise InvalidRowError(f"{where}: {error}") from error
        if not ids:
            raise InvalidRowError(f"{where}: `prompt` has no tokens; give one with text")
        if max_positions is not None and len(ids) >= max_positions:
            raise InvalidRowError(
                f"{where}: `prompt` has {len(ids)} tokens, and the model reads {max_positions} in all; shorten it"
            )
        check_embeddings(f"{where}: `prompt`", tokenizer, ids, embeddings)
        encoded.append(ids)
    return encoded


def check_embeddings(where: str, tokenizer: Any, ids: Sequence[int], embeddings: int) -> None:
    """Raises InvalidModelError if the tokenizer made an id for which the model has no embedding."""
    largest = max(ids, default=0)
    if largest >= embeddings:
        raise InvalidModelError(
            f"{where} holds the token {tokenizer.convert_ids_to_tokens(largest)!r}, whose id is {largest}, but the "
            f"model has {embeddings} embeddings (ids from 0): the tokenizer in {tokenizer.name_or_path} has tokens "
            "that the model was not made for. Leave the token out, or give the model its own tokenizer."
        )


def render(tokenizer: Any, messages: Prompt) -> str:
    """A chat as the template writes it, up to where the answer starts. Raises as `encode`."""
    if isinstance(messages, str):
        return messages
    continued = messages[-1]["role"] == "assistant"
    return _templated(
        tokenizer, messages, add_generation_prompt=not continued, continue_final_message=continued
    )


def encode_completion(tokenizer: Any, completion: str, *, eos: bool) -> list[int]:
    """Token ids of a completion that nobody sampled; no BOS, and EOS behind it if asked for."""
    ids = _plain_ids(tokenizer, completion)
    if eos and tokenizer.eos_token_id is not None and (not ids or ids[-1] != tokenizer.eos_token_id):
        ids.append(tokenizer.eos_token_id)
    return ids


def encode_answered(tokenizer: Any, prompt: Prompt, completion: str) -> list[int]:
    """Prompt and answer as one text, as a reward model reads it: a whole chat, or the plain texts and EOS.

    What an answer spells stays text, too. Raises as `encode`.
    """
    if isinstance(prompt, str):
        return _with_eos(tokenizer, _ids(tokenizer, prompt + _defused(tokenizer, completion)))
    continued = prompt[-1]["role"] == "assistant"
    final = {"role": "assistant", "content": prompt[-1]["content"] + completion if continued else completion}
    messages = [*(prompt[:-1] if continued else prompt), final]
    text = _templated(tokenizer, messages, add_generation_prompt=False, continue_final_message=False)
    return _without_double_bos(tokenizer, _plain_ids(tokenizer, text))


def decode(tokenizer: Any, ids: list[list[int]]) -> list[str]:
    """The texts of completions, without special tokens."""
    texts: list[str] = tokenizer.batch_decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts


def _templated(tokenizer: Any, messages: list[dict[str, str]], **options: bool) -> str:
    if not tokenizer.chat_template:
        raise InvalidModelError(
            f"{tokenizer.name_or_path}: the prompts are chat messages, but the tokenizer has no chat template. Give "
            "the prompts as strings, or a model with a chat template (chat_template.jinja)."
        )
    from jinja2 import TemplateError  # noqa: PLC0415 - comes with transformers

    defused = [message | {"content": _defused(tokenizer, message["content"])} for message in messages]
    try:
        text: str = tokenizer.apply_chat_template(defused, tokenize=False, **options)
    except (TemplateError, ValueError, TypeError) as error:
        raise InvalidRowError(
            f"the chat template of {tokenizer.name_or_path} refuses the messages {str(messages)[:200]}: {error}"
        ) from error
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    """With the tokenizer's own special tokens, less an EOS that some put behind every text."""
    bos = tokenizer.bos_token
    if bos and text.startswith(bos):
        return _plain_ids(tokenizer, text)
    ids: list[int] = tokenizer(text)["input_ids"]
    plain = _plain_ids(tokenizer, text)
    return ids[:-1] if ids[-len(plain) - 1 :] == [*plain, tokenizer.eos_token_id] else ids


def _defused(tokenizer: Any, text: str) -> str:
    """No special token is spelt out: a zero-width space parts its letters."""
    for token in _special_tokens(tokenizer):
        text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
    return text


@lru_cache(maxsize=4)
def _special_tokens(tokenizer: Any) -> frozenset[str]:
    added = (token.content for token in tokenizer.added_tokens_decoder.values() if token.special)
    return frozenset([*tokenizer.all_special_tokens, *added])


def _plain_ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _without_double_bos(tokenizer: Any, ids: list[int]) -> list[int]:
    """Some tokenizers add BOS whatever they are told, on top of the template's."""
    bos = tokenizer.bos_token_id
    return ids[1:] if bos is not None and ids[:2] == [bos, bos] else ids


def _with_eos(tokenizer: Any, ids: list[int]) -> list[int]:
    eos = tokenizer.eos_token_id
    return ids if eos is None or ids[-1:] == [eos] else [*ids, eos]

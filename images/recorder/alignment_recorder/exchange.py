"""From the bytes of a request and its answer to a line of the log. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

RECORDED = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}


class UnreadableError(Exception):
    """Not what an OpenAI-compatible server answers."""


@dataclass(frozen=True)
class Exchange:
    """As it went over the wire, answered with 200. `at`: RFC 3339; `digest`: of the served model, if it is known."""

    path: str
    at: str
    digest: str | None
    request: bytes
    response: bytes
    streamed: bool


def interaction(exchange: Exchange) -> dict[str, Any]:
    """`kind`, `id`, `at`, `digest`, the `request` as it was sent and the `response`, put together if it was streamed.

    Raises UnreadableError.
    """
    request = _object(exchange.request)
    response = assembled(exchange.response) if exchange.streamed else _object(exchange.response)
    if not isinstance(response.get("id"), str) or not response.get("choices"):
        raise UnreadableError("the answer has no `id` or no `choices`")
    return {
        "kind": RECORDED[exchange.path],
        "id": response["id"],
        "at": exchange.at,
        "digest": exchange.digest,
        "request": request,
        "response": response,
    }


def assembled(stream: bytes) -> dict[str, Any]:
    """The completion that server-sent chunks make together, as the server would have answered without `stream`.

    Raises UnreadableError. https://platform.openai.com/docs/api-reference/chat-streaming
    """
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in _chunks(stream):
        for choice in chunk.pop("choices", None) or ():
            _add_choice(choices.setdefault(choice.get("index", 0), {}), choice)
        whole |= {name: value for name, value in chunk.items() if value is not None}
    if whole.get("object") == "chat.completion.chunk":
        whole["object"] = "chat.completion"
    return whole | {"choices": [choices[index] for index in sorted(choices)]}


def _chunks(stream: bytes) -> Iterable[dict[str, Any]]:
    for line in stream.splitlines():
        if line.startswith(b"data:") and (data := line[5:].strip()) and data != b"[DONE]":
            yield _object(data)


def _add_choice(whole: dict[str, Any], choice: Mapping[str, Any]) -> None:
    for name, value in choice.items():
        if name == "delta":
            _add(whole.setdefault("message", {}), value or {})
        elif name == "text":
            whole["text"] = whole.get("text", "") + (value or "")
        elif value is not None or name not in whole:
            whole[name] = value


def _add(whole: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Texts go on, lists by their items' `index`, anything else replaces; null says nothing."""
    for name, value in delta.items():
        before = whole.get(name)
        if value is None:
            whole.setdefault(name, None)
        elif isinstance(value, str) and isinstance(before, str) and name not in ("role", "id", "type"):
            whole[name] = before + value
        elif isinstance(value, dict):
            whole[name] = before or {}
            _add(whole[name], value)
        elif isinstance(value, list):
            whole[name] = before or []
            _add_items(whole[name], value)
        else:
            whole[name] = value


def _add_items(whole: list[dict[str, Any]], items: list[Any]) -> None:
    for item in items:
        if not isinstance(item, dict):
            raise UnreadableError("a list of a chunk holds what is not an object")
        there = next((known for known in whole if known.get("index") == item.get("index")), None)
        if there is None:
            there = {}
            whole.append(there)
        _add(there, item)


def _object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UnreadableError("not a JSON object")
    return found

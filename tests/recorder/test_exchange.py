"""Chunks put together, beside the openai client's own accumulator."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from alignment_recorder.exchange import Exchange as Recorded
from alignment_recorder.exchange import UnreadableError, assembled, interaction


def chunk(delta: dict[str, Any], index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [{"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}]
    same = {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "m"}
    return {**same, "choices": choices, **more}


def call(arguments: str, index: int = 0, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    return {"tool_calls": [{"index": index, "function": function, **more}]}


CHUNKS = [
    chunk({"role": "assistant", "content": "", "refusal": None}),
    chunk({"content": "Let me "}),
    chunk({"role": "assistant", "content": "other"}, index=1),
    chunk({"content": "see\n"}),
    chunk(call("", id="t1", type="function", name="find")),
    chunk(call('{"a":')),
    chunk(call("", index=1, id="t2", type="function", name="look")),
    chunk(call(" 1}")),
    chunk(call("{}", index=1)),
    chunk({}, finish="tool_calls"),
    chunk({}, index=1, finish="stop"),
    {
        **chunk({}),
        "choices": [],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    },
]


def stream(chunks: list[dict[str, Any]], end: str = "\n\n") -> bytes:
    told = "".join(f"data: {json.dumps(each)}{end}" for each in chunks)
    return f": a comment{end}{told}data: [DONE]{end}".encode()


def test_it_is_what_the_openai_client_makes_of_it() -> None:
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for each in CHUNKS:
        state.handle_chunk(ChatCompletionChunk.model_validate(each))
    theirs = state.get_final_completion().model_dump(exclude_none=True)
    ours = assembled(stream(CHUNKS))
    assert ours["usage"] == theirs["usage"]
    assert (ours["id"], ours["object"], ours["model"]) == (theirs["id"], theirs["object"], theirs["model"])
    for choice, other in zip(ours["choices"], theirs["choices"], strict=True):
        assert choice["finish_reason"] == other["finish_reason"]
        assert choice["message"]["content"] == other["message"]["content"]
        calls = [
            (each["id"], each["function"]["name"], each["function"]["arguments"])
            for each in other["message"].get("tool_calls", [])
        ]
        assert calls == [
            (each["id"], each["function"]["name"], each["function"]["arguments"])
            for each in choice["message"].get("tool_calls", [])
        ]


def test_line_ends_may_be_of_either_kind() -> None:
    assert assembled(stream(CHUNKS, "\r\n\r\n")) == assembled(stream(CHUNKS))


def test_plain_completions_are_put_together() -> None:
    same = {"id": "cmpl-1", "object": "text_completion", "model": "m"}
    chunks = [
        {**same, "choices": [{"index": 0, "text": text, "finish_reason": finish}]}
        for text, finish in (("a", None), (" b", "stop"))
    ]
    assert assembled(stream(chunks)) == {
        **same,
        "choices": [{"index": 0, "text": "a b", "finish_reason": "stop"}],
    }


def test_null_says_nothing() -> None:
    same = {"id": "c-1", "object": "chat.completion.chunk"}
    calls = [{"index": 0, "id": "t1"}]
    chunks = [
        {**same, "choices": [{"index": 0, "delta": {"content": "a", "tool_calls": None, "audio": None}}]},
        {**same, "choices": [{"index": 0, "delta": None, "text": None}]},
        {
            **same,
            "choices": [{"index": 0, "delta": {"content": None, "tool_calls": calls, "audio": {"id": "u"}}}],
        },
    ]
    (choice,) = assembled(stream(chunks))["choices"]
    assert choice["message"] == {"content": "a", "tool_calls": calls, "audio": {"id": "u"}}


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"[]",
        b"data: {",
        b"data: 3",
        b"data: " + b"[" * 100_000,
        b'data: {"id": "x", "choices": [{"delta": {"tool_calls": ["x"]}}]}',
        b'data: {"id": "x", "choices": []}',
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_no_answer_is_unreadable(response: bytes, streamed: bool) -> None:
    exchange = Recorded("/v1/chat/completions", "now", None, b'{"messages": []}', response, streamed)
    with pytest.raises(UnreadableError):
        interaction(exchange)

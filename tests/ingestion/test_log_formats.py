"""What records of inference logs say, by format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alignment_worker.ingestion.log_formats import Answered, Said, records
from alignment_worker.rows import RowProblemError

ASKED = [{"role": "user", "content": "capital of France?"}]
DIGEST = f"sha256:{'a' * 64}"
COMPLETION = {
    "id": "chatcmpl-1",
    "created": 1_700_000_000,
    "choices": [{"message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
}
CHAT = {
    "kind": "chat",
    "id": "chatcmpl-1",
    "at": "2026-11-23T10:00:00.5+01:00",
    "digest": DIGEST,
    "request": {"messages": ASKED, "user": "ada"},
    "response": COMPLETION,
}
SERVED = Answered("chatcmpl-1", "2026-11-23T09:00:00.500000Z", "ada", ASKED, "Paris", DIGEST)


def typed(value: Any) -> dict[str, Any]:
    """As OTLP writes an attribute."""
    if isinstance(value, list):
        return {"arrayValue": {"values": [typed(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    return {"stringValue": value}


def attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": typed(value)} for key, value in values.items()]


def message(role: str, text: str, kind: str = "text") -> dict[str, Any]:
    return {"role": role, "parts": [{"type": kind, "content": text}]}


def spans(values: dict[str, Any], events: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    span = {
        "spanId": "s1",
        "startTimeUnixNano": "1795424400500000000",
        "attributes": attributes(values),
        "events": events or [],
    }
    resource = {"attributes": attributes({"alignment.model.digest": DIGEST})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}


OTEL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.response.id": "chatcmpl-1",
    "gen_ai.conversation.id": "c7",
    "gen_ai.input.messages": json.dumps([message("user", "capital of France?")]),
    "gen_ai.output.messages": json.dumps([message("assistant", "Paris") | {"finish_reason": "stop"}]),
}


def test_what_the_recorder_writes_is_read() -> None:
    assert list(records("OpenAI", CHAT)) == [SERVED]
    feedback = {
        "kind": "feedback",
        "id": "chatcmpl-1",
        "at": "2026-11-23T09:01:00Z",
        "rating": "down",
        "edit": "Lyon",
    }
    assert list(records("OpenAI", feedback)) == [
        Said("chatcmpl-1", "2026-11-23T09:01:00.000000Z", good=False, edit="Lyon")
    ]


def test_chat_records_without_a_request_are_read() -> None:
    row = {"messages": [*ASKED, {"role": "assistant", "content": "Paris"}]}
    (found,) = records("OpenAI", row)
    assert isinstance(found, Answered)
    assert (found.prompt, found.answer, found.at, found.digest) == (ASKED, "Paris", "", None)
    (again,) = records("OpenAI", row)
    assert found.id == again.id


def test_plain_completions_are_read() -> None:
    response = {"id": "cmpl-1", "created": 0, "choices": [{"text": " Paris", "finish_reason": "stop"}]}
    (found,) = records("OpenAI", {"request": {"prompt": "The capital is"}, "response": response})
    assert isinstance(found, Answered)
    assert (found.prompt, found.answer) == ("The capital is", " Paris")


@pytest.mark.parametrize(
    ("request_", "choice"),
    [
        ({"tools": [{"type": "function"}]}, {}),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, {}),
        ({"messages": [{"role": "tool", "content": "4"}]}, {}),
        ({"prompt": ["one", "two"]}, {}),
        ({}, {"finish_reason": "length"}),
        ({}, {"finish_reason": "tool_calls"}),
        ({}, {"message": {"role": "assistant", "content": None}}),
        ({}, {"message": {"role": "assistant", "content": ""}}),
    ],
)
def test_what_is_no_whole_answer_in_text_is_passed_over(
    request_: dict[str, Any], choice: dict[str, Any]
) -> None:
    row = {
        **CHAT,
        "request": {"messages": ASKED, **request_},
        "response": {**COMPLETION, "choices": [{**COMPLETION["choices"][0], **choice}]},  # type: ignore[index]
    }
    assert list(records("OpenAI", row)) == []


def test_parts_of_text_are_one_text() -> None:
    parts = [{"type": "text", "text": "capital "}, {"type": "text", "text": "of France?"}]
    row = {**CHAT, "request": {"messages": [{"role": "user", "content": parts}], "user": "ada"}}
    assert list(records("OpenAI", row)) == [SERVED]


def test_litellms_payload_is_read() -> None:
    row = {
        "id": "call-1",
        "status": "success",
        "messages": ASKED,
        "response": COMPLETION,
        "startTime": 1795424400.5,
        "end_user": "ada",
        "metadata": {"digest": DIGEST},
    }
    assert list(records("LiteLLM", row)) == [SERVED]
    assert list(records("LiteLLM", {**row, "response": "Paris"})) == [
        Answered("call-1", SERVED.at, "ada", ASKED, "Paris", DIGEST)
    ]
    assert list(records("LiteLLM", {**row, "status": "failure", "response": None})) == []


@pytest.mark.parametrize("structured", [False, True])
def test_spans_of_the_conventions_are_read(structured: bool) -> None:
    values = {
        name: json.loads(value) if structured and value[0] == "[" else value for name, value in OTEL.items()
    }
    (found,) = records("OTelGenAI", spans(values))
    assert found == Answered("chatcmpl-1", SERVED.at, "c7", ASKED, "Paris", DIGEST)


def test_instructions_of_a_span_are_a_system_message() -> None:
    told = [{"type": "text", "content": "Be brief."}]
    (found,) = records("OTelGenAI", spans({**OTEL, "gen_ai.system_instructions": json.dumps(told)}))
    assert isinstance(found, Answered)
    assert found.prompt == [{"role": "system", "content": "Be brief."}, *ASKED]


@pytest.mark.parametrize(("label", "good"), [("thumbs_up", True), ("BAD", False), ("3 stars", None)])
def test_an_evaluation_is_feedback_if_it_is_clear(label: str, good: bool | None) -> None:
    event = {
        "name": "gen_ai.evaluation.result",
        "timeUnixNano": "1795424460000000000",
        "attributes": attributes({"gen_ai.evaluation.name": "user", "gen_ai.evaluation.score.label": label}),
    }
    said = [record for record in records("OTelGenAI", spans(OTEL, [event])) if isinstance(record, Said)]
    assert [each.good for each in said] == ([] if good is None else [good])
    assert all(each.id == "chatcmpl-1" for each in said)


def test_other_spans_are_passed_over() -> None:
    assert list(records("OTelGenAI", spans({"http.method": "GET"}))) == []
    assert list(records("OTelGenAI", spans({**OTEL, "gen_ai.operation.name": "embeddings"}))) == []


def test_a_span_that_cannot_be_read_costs_no_other_of_its_batch() -> None:
    tool = {**OTEL, "gen_ai.input.messages": json.dumps([message("tool", "x")])}
    cut = {
        **OTEL,
        "gen_ai.output.messages": json.dumps([message("assistant", "Par") | {"finish_reason": "length"}]),
    }
    batch = [spans(values)["resourceSpans"][0] for values in (tool, OTEL, cut)]
    found = records("OTelGenAI", {"resourceSpans": batch})
    assert next(found) == Answered("chatcmpl-1", SERVED.at, "c7", ASKED, "Paris", DIGEST)
    with pytest.raises(RowProblemError, match=r"^1 of its 3 spans cannot be read, the first: "):
        next(found)


@pytest.mark.parametrize(
    "span",
    [
        {"startTimeUnixNano": "1" + "0" * 400},
        {"attributes": [{"key": "a", "value": {"arrayValue": 3}}]},
        {"attributes": [{"key": "a", "value": {"arrayValue": {"values": 3}}}]},
        {"attributes": [{"key": "a", "value": {"kvlistValue": [3]}}]},
    ],
)
def test_what_no_record_needs_may_be_nonsense(span: dict[str, Any]) -> None:
    row = {"resourceSpans": [{"resource": 3, "scopeSpans": [{"spans": [span]}]}]}
    assert list(records("OTelGenAI", row)) == []


@pytest.mark.parametrize(
    ("log_format", "row", "told"),
    [
        ("OpenAI", {}, "`request` is no object"),
        ("OpenAI", {"request": {}, "response": {}}, "`messages` is no list"),
        ("OpenAI", {**CHAT, "response": {}}, "no `choices`"),
        ("OpenAI", {**CHAT, "at": "yesterday"}, "'yesterday' is no time"),
        ("OpenAI", {**CHAT, "request": {"messages": [{"role": "robot", "content": "x"}]}}, "without `role`"),
        ("OpenAI", {**CHAT, "request": {"messages": [{"role": "user", "content": 3}]}}, "no text"),
        ("OpenAI", {"kind": "feedback", "id": "x", "rating": 5}, "up or down"),
        ("OpenAI", {"kind": "feedback", "rating": "up"}, "`id` is no text"),
        ("OpenAI", {"messages": ASKED}, "do not end with an answer"),
        ("LiteLLM", {"response": 3}, "`response` is no object"),
        ("OTelGenAI", {}, "no `resourceSpans`"),
        ("OTelGenAI", {"resourceSpans": [1]}, "`resourceSpans` is no list of objects"),
        ("OTelGenAI", {"resourceSpans": [{"scopeSpans": 3}]}, "`scopeSpans` is no list of objects"),
        (
            "OTelGenAI",
            {"resourceSpans": [{"scopeSpans": [{"spans": ["x"]}]}]},
            "`spans` is no list of objects",
        ),
        (
            "OTelGenAI",
            {"resourceSpans": [{"scopeSpans": [{"spans": [{"events": 3}]}]}]},
            "`events` is no list",
        ),
        ("OTelGenAI", spans({**OTEL, "gen_ai.input.messages": "nonsense"}), "no JSON"),
        (
            "OTelGenAI",
            spans({**OTEL, "gen_ai.output.messages": [message("assistant", "x", "blob")]}),
            "no text",
        ),
    ],
)
def test_what_cannot_be_read_is_told(log_format: str, row: dict[str, Any], told: str) -> None:
    with pytest.raises(RowProblemError, match=told):
        list(records(log_format, row))
